public import LinuxKernel
public import Views

/// Where bytes lie in physical memory, and what they belong to.
public struct SearchView: KernelView {
  public struct Options: ViewOptions {
    @ViewOption(isArgument: true, help: "The text to find, or with --hex its bytes in hexadecimal.")
    public var pattern: String
    @ViewOption(help: "The pattern is hexadecimal: 7f454c46.") public var hex = false
    @ViewOption(help: "Stop after this many.") public var limit = 1000

    public init() {}

    public func problem() -> String? {
      if bytes.isEmpty { return "Give text to find, or with --hex pairs of hexadecimal digits." }
      return limit < 1 ? "--limit takes a number from 1 on." : nil
    }

    /// What to look for; empty where the pattern is no hexadecimal.
    var bytes: [UInt8] {
      guard hex else { return Array(pattern.utf8) }
      let digits = Array(pattern.filter { $0 != " " })
      guard digits.count % 2 == 0 else { return [] }
      let bytes = stride(from: 0, to: digits.count, by: 2).map { UInt8(String(digits[$0...$0 + 1]), radix: 16) }
      return bytes.contains(nil) ? [] : bytes.compactMap { $0 }
    }
  }

  public static let name = "search"
  public static let group = ViewGroup.expert
  public static let summary = "Finds bytes in physical memory, and says what they belong to."
  public static let discussion = """
    The owner is kernel-text or kernel-data with a symbol, slab with the cache's name, file with file system, inode \
    number and name, anon (memory of processes), free, reserved, or kernel for the rest.
    """

  public static func columns(_ options: Options) -> [ViewColumn<MemoryHit>] {
    [
      ViewColumn("ADDRESS", "address", in: .address, \.address).identity,
      ViewColumn("OWNER", "owner") { $0.owner.kind }.shown { (hit: MemoryHit) -> String in
        ([hit.owner.kind] + hit.owner.parts.map(\.value.printable)).joined(separator: " ")
      },
    ]
      + ["symbol", "cache", "fs", "inode", "name"].map { key in
        ViewColumn(json: key) { (hit: MemoryHit) -> ViewValue in
          hit.owner.parts.first { $0.key == key }.map { .bytes($0.value) } ?? .absent
        }
      }
  }

  public static let readsAllMemory = true

  public static func samples(_ subject: ViewSubject) -> [[(name: String, text: String)]] {
    [[("pattern", subject.text)]]
  }

  public static func rows(of kernel: Kernel, _ options: Options) throws(KernelError) -> ViewRows<MemoryHit> {
    let found = try kernel.search(options.bytes, limit: options.limit)
    return ViewRows(
      found.hits, faults: found.faults,
      notes: found.isCut ? ["there are more than \(options.limit): --limit shows them"] : [])
  }
}

extension PageOwner {
  fileprivate var kind: String {
    switch self {
    case .kernelText: "kernel-text"
    case .kernelData: "kernel-data"
    case .slab: "slab"
    case .file: "file"
    case .anonymous: "anon"
    case .free: "free"
    case .reserved: "reserved"
    case .kernel: "kernel"
    case .unknown: "unknown"
    }
  }

  /// What is known of the owner, by name.
  fileprivate var parts: [(key: String, value: [UInt8])] {
    switch self {
    case .kernelText(let name?), .kernelData(let name?): [("symbol", Array(name.utf8))]
    case .slab(let cache): [("cache", cache)]
    case .file(let device, let inode, let name): [("fs", device), ("inode", Array("\(inode)".utf8)), ("name", name)]
    default: []
    }
  }
}
