public import Foundation

extension Guest {
  /// Breaks the guest, with what has to be there before.
  ///
  /// - Throws: ``LabError`` where the guest lacks what it takes, or refuses.
  public func perform(_ one: Break) throws {
    if let preparation = one.preparation { try perform(preparation) }
    try perform(one.deed)
  }

  /// Does one thing to the guest.
  ///
  /// - Throws: ``LabError`` where the guest lacks what it takes, or refuses.
  public func perform(_ deed: Break.Deed) throws {
    switch deed {
    case .script(let script):
      let output = try run(script)
      guard output.status == 0 else { throw LabError("the guest refused: \(output.text.suffix(500))") }
    case .sent(let script): try send(script)
    case .pause: try pause()
    case .resume: try resume()
    case .hang: _ = try hang()
    }
  }
}

extension KernelStore.Kernel {
  /// What a break needs and this kernel's guests cannot have: in words; nil where nothing lacks.
  public func lacks(for one: Break) -> String? {
    if one.needs.contains(.module), module("break") == nil { return "break.ko was not built for \(release)" }
    if one.needs.contains(.devices), deviceModules.isEmpty { return "there are no modules of \(release)" }
    return nil
  }
}

extension Break {
  /// As JSON has it, one line.
  public var json: Data {
    get throws {
      try JSONSerialization.data(
        withJSONObject: [
          "name": name, "kind": kind.rawValue, "summary": summary, "needs": needs.map(\.rawValue).sorted(),
          "undo": undo != nil, "prepares": preparation != nil, "detectors": detectors, "subject": subject,
          "within": within, "effects": effects,
          "survives": survives, "cpus": cpus,
        ], options: [.sortedKeys])
    }
  }
}
