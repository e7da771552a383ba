import Binding
public import KernelViews
import LinuxKernel
import Memory

/// Data of the kernel changed that nothing may write.
public struct ChangedData: Detector {
  public static let name = "changed-data"
  public static let kind = Finding.Kind.attack
  public static let summary =
    "Data that the kernel maps read-only is not what it was: tables of functions are there, and what the kernel trusts."
  public static let rule = """
    The pages from __start_rodata to __end_rodata have the digests that were learned of this boot: what is only written while the \
    kernel starts is among them, and is never written again.
    """
  public static let looksLike =
    "A host that was learned before it had booted: learn it again. Code that patches itself lies elsewhere, and so do the words that switch it."
  public static let remedy = """
    Treat the host as taken over. Compare the page with the kernel's own file (grassctl read, and the vendor's vmlinux); keep the memory.
    """
  public static let techniques = ["T1014"]
  public static let baseline = Finding.Baseline.learned
  public static let factsAreOfBoot = true

  private static let pageSize = 4096
  /// More than any kernel has.
  private static let most: UInt64 = 64 << 20

  /// Where the data lies, and the digest of each page of it.
  private static func pages(_ look: Look) throws(KernelError) -> (start: VirtualAddress, digests: [MemoryDigest])? {
    let kernel = look.kernel
    guard let start = kernel.symbols.address(of: "__start_rodata"),
      let end = kernel.symbols.address(of: "__end_rodata"),
      let physical = kernel.found.physicalAddress(ofImage: start), start < end, end.rawValue - start.rawValue <= most
    else { return nil }
    let count = Int(end.rawValue - start.rawValue)
    let ranges = stride(from: 0, to: count, by: pageSize).map {
      MemorySegment(start: physical + $0, count: UInt64(min(pageSize, count - $0)))
    }
    return try KernelError.reading("the kernel's read-only data") {
      (start, try kernel.memory.digests(of: ranges))
    }
  }

  public static func facts(_ look: Look) throws(KernelError) -> [String: String] {
    // While the kernel starts, it still writes there.
    let running = look.kernel.types.enumerator("SYSTEM_RUNNING") ?? 3
    if let state = try look.number("system_state"), state < UInt64(max(0, running)) { return [:] }
    guard let pages = try pages(look) else { return [:] }
    return Dictionary(uniqueKeysWithValues: pages.digests.enumerated().map { ("\($0)", "\($1)") })
  }

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    guard let learned = try look.learned(by: Self.self), let pages = try pages(look) else { return Sightings() }
    let changed = pages.digests.indices.filter { index in
      learned["\(index)"].map { $0 != "\(pages.digests[index])" } ?? false
    }
    guard !changed.isEmpty else { return Sightings() }
    let symbols = try look.once("symbols") { kernel throws(KernelError) in try kernel.symbolMap() }
    func name(_ index: Int) -> String {
      let address = pages.start + index * pageSize
      return symbols.place(of: address)?.name ?? "\(address)"
    }
    return Sightings([
      Sighting(
        [.table("the kernel's read-only data", entry: changed[0])], .critical, .strong,
        "\(changed.count == 1 ? "a page" : "\(changed.count) pages") of the kernel's read-only data changed, from "
          + "\(Text.list(changed.map(name))) on",
        evidence: changed.prefix(6).map { index in
          .init(
            "page \(index)", at: pages.start + index * pageSize, symbol: name(index), seen: "\(pages.digests[index])",
            expected: learned["\(index)"])
        }, persists: changed.prefix(64).map { pages.digests[$0].low })
    ])
  }
}
