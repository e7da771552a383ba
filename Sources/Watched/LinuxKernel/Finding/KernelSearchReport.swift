public import Memory

/// What a search for a kernel tried, and why nothing was taken.
public struct KernelSearchReport: Hashable, Sendable {
  /// One place that looked like a kernel's VMCOREINFO note or token table, and why no kernel was taken from it.
  public struct Refusal: Hashable, Sendable {
    public let address: PhysicalAddress
    public let reason: String
  }

  /// What was tried in one of the ways to lay out the memory.
  public struct Layout: Hashable, Sendable {
    /// What the memory is, where it lies in a file.
    public let name: String?
    /// How many bytes of memory were searched.
    public package(set) var scanned: UInt64 = 0
    /// How many places looked like a kernel's.
    public package(set) var tried = 0
    /// Why the first of them were refused.
    public private(set) var refused: [Refusal] = []

    /// How many refusals are kept; further ones are counted.
    private static let refusalsKept = 16

    package init(name: String? = nil) { self.name = name }

    package mutating func refuse(_ address: PhysicalAddress, _ reason: String) {
      guard refused.count < Self.refusalsKept else { return }
      refused.append(Refusal(address: address, reason: reason))
    }
  }

  /// One for each way to lay out the memory.
  public let layouts: [Layout]

  package init(_ layouts: [Layout]) { self.layouts = layouts }
}

extension KernelSearchReport: CustomStringConvertible {
  public var description: String {
    guard !layouts.isEmpty else { return "there is no memory to look at" }
    var text = layouts.map { $0.description(isNamed: layouts.count > 1) }.joined(separator: "\n")
    if layouts.allSatisfy({ $0.tried == 0 }) {
      text += ". Give all physical memory of a running or crashed x86-64 Linux host"
    } else {
      text +=
        "\nThe kernel must have CONFIG_KALLSYMS and CONFIG_DEBUG_INFO_BTF, and its image must be whole. "
        + "Kernels from 5.10 on are known"
    }
    // Names come from the watched memory and end on terminals: control characters stay out.
    var printable = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
      printable.append(scalar.properties.generalCategory == .control && scalar != "\n" ? "?" : scalar)
    }
    return String(printable)
  }
}

extension KernelSearchReport.Layout {
  fileprivate func description(isNamed: Bool) -> String {
    var text = "\(scanned >> 20) MiB of physical memory"
    if isNamed, let name { text += " (\(name))" }
    guard tried > 0 else {
      return text + ": no page holds a VMCOREINFO note, and nothing in it is a kallsyms token table"
    }
    text += ": \(tried) VMCOREINFO note\(tried == 1 ? "" : "s") or kallsyms token tables were refused"
    for refusal in refused { text += "\n  at \(refusal.address): \(refusal.reason)" }
    if tried > refused.count { text += "\n  and \(tried - refused.count) more" }
    return text
  }
}
