import Binding
import KernelInfo
public import KernelViews

/// Code that the kernel made itself at run time: the images of BPF programs, of their trampolines and dispatchers.
public struct KnownCode: Faulted {
  /// In ascending order.
  var ranges: [(range: Range<UInt64>, name: [UInt8])] = []
  public internal(set) var faults: [MemoryFault] = []

  /// Whether an address is in one of them.
  func holds(_ address: VirtualAddress) -> Bool { ranges.contains { $0.range.contains(address.rawValue) } }
}

/// Reads the list of the images of BPF.
///
/// Source: kernel/bpf/core.c, `bpf_kallsyms`.
private struct KnownCodeReader: SettledReader {
  static let subject = "the images of BPF"

  struct Image: KernelShape {
    static let type = "bpf_ksym"
    let link = Place("lnode")
    let start = Field<UInt64>("start")
    let end = Field<UInt64>("end")
    let name = Field<[UInt8]>("name")
  }

  let image: Bound<Image>
  let head: VirtualAddress?

  init(kernel: Kernel) throws {
    image = try Bound(kernel.types)
    // A kernel without BPF has none.
    head = kernel.symbols.address(of: "bpf_kallsyms")
  }

  func read(_ kernel: Kernel) -> KnownCode {
    var known = KnownCode()
    guard let head else { return known }
    let images = kernel.addressSpace.list(of: image, through: \.link, head: head, limit: 1 << 16, &known.faults)
    known.ranges = images.compactMap(&known.faults) { (image) throws(MemoryFault) in
      let (start, end) = (try image.start, try image.end)
      guard start < end, end - start < 1 << 24 else {
        throw MemoryFault(.virtual(image.address), .inconsistent("an image of BPF without an extent"))
      }
      return (start..<end, try image.name)
    }.sorted { $0.range.lowerBound < $1.range.lowerBound }
    return known
  }
}

extension Look {
  /// Code that the kernel made at run time.
  public func knownCode() throws(KernelError) -> KnownCode {
    try once("known code") { kernel throws(KernelError) in try kernel.read(KnownCodeReader.self) }
  }
}
