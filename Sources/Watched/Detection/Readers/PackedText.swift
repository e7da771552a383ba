import KernelInfo

/// What was found in a text, in a fifth of the room: whoever watches thousands of hosts keeps it of each of their texts.
struct PackedText: Sendable {
  /// How many remarks there are.
  let count: Int
  private let functions: Int
  private let undecoded: Int
  /// Each remark: its kind, how many bytes it has, its place and its function's from the text's start, what it leads to where it
  /// leads anywhere, its bytes.
  private let packed: [UInt8]

  private enum Kind: UInt8 { case branch, breakpoint, place, noPlace, landing }

  /// Packs a text that begins at `start`, in which nothing failed.
  init(_ text: KernelText, at start: UInt64) {
    var packed: [UInt8] = []
    packed.reserveCapacity(text.remarks.count * 23)
    func add<Number: FixedWidthInteger>(_ number: Number) {
      withUnsafeBytes(of: number.littleEndian) { packed.append(contentsOf: $0) }
    }
    for remark in text.remarks {
      let (kind, target): (Kind, VirtualAddress?) =
        switch remark.kind {
        case .branch(let target): (.branch, target)
        case .breakpoint: (.breakpoint, nil)
        case .place(let target): (target == nil ? .noPlace : .place, target)
        case .landing: (.landing, nil)
        }
      let bytes = remark.bytes.prefix(255)
      add(kind.rawValue)
      add(UInt8(bytes.count))
      // A text has 128 MiB at most.
      add(UInt32(truncatingIfNeeded: remark.address.rawValue &- start))
      add(UInt32(truncatingIfNeeded: remark.function.rawValue &- start))
      if let target { add(target.rawValue) }
      packed.append(contentsOf: bytes)
    }
    (count, functions, undecoded) = (text.remarks.count, text.functions, text.undecoded)
    self.packed = packed
  }

  /// What was packed.
  func unpacked(at start: UInt64) -> KernelText {
    var text = KernelText()
    (text.functions, text.undecoded) = (functions, undecoded)
    text.remarks.reserveCapacity(count)
    var rest = packed[...]
    func take<Number: FixedWidthInteger>(_: Number.Type) -> Number {
      let size = MemoryLayout<Number>.size
      defer { rest = rest.dropFirst(size) }
      return rest.prefix(size).reversed().reduce(0) { $0 << 8 | Number(truncatingIfNeeded: $1) }
    }
    while !rest.isEmpty {
      let kind = Kind(rawValue: take(UInt8.self)) ?? .landing
      let count = Int(take(UInt8.self))
      let address = VirtualAddress(start &+ UInt64(take(UInt32.self)))
      let function = VirtualAddress(start &+ UInt64(take(UInt32.self)))
      let what: TextRemark.Kind =
        switch kind {
        case .branch: .branch(to: VirtualAddress(take(UInt64.self)))
        case .breakpoint: .breakpoint
        case .place: .place(calls: VirtualAddress(take(UInt64.self)))
        case .noPlace: .place(calls: nil)
        case .landing: .landing
        }
      text.remarks.append(
        TextRemark(kind: what, address: address, function: function, bytes: Array(rest.prefix(count))))
      rest = rest.dropFirst(count)
    }
    return text
  }
}
