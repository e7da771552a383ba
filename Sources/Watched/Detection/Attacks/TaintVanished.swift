public import KernelViews

/// A module that taints the kernel is loaded, and the kernel's own mark of it is gone.
public struct TaintVanished: Detector {
  public static let name = "taint-vanished"
  public static let kind = Finding.Kind.attack
  public static let summary =
    "A mark that the kernel never takes back is gone: somebody cleared it to hide what was loaded."
  public static let rule = """
    Each bit of a loaded module's taints, and of what the log says was tainted, has to be in tainted_mask; and a bit that was \
    there in the look before is there in this one.
    """
  public static let looksLike = "Nothing: no way of the kernel clears a bit."
  public static let remedy = """
    Treat the host as taken over: keep the memory, look for hidden modules (grassctl check), and do not trust what it says of \
    itself.
    """
  public static let techniques = ["T1014", "T1070"]
  public static let baseline = Finding.Baseline.invariant
  public static let needsOneLook = true

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let modules = try look.modules()
    // Read behind the modules: a module's own bits are set after the kernel's.
    let taint = try look.taint()
    var evidence: [Finding.Evidence] = []
    for module in modules.modules where module.state == .live && module.taints & ~taint != 0 {
      evidence.append(
        .init(
          "taints of module \(module.name.printable)", at: module.address, seen: hex(module.taints),
          expected: "its bits in tainted_mask, which is \(hex(taint))"))
    }
    if let earlier = try before?.taint(), earlier & ~taint != 0 {
      evidence.append(.init("tainted_mask", seen: hex(taint), expected: "what it was before, \(hex(earlier))"))
    }
    // What the log says of modules that taint: out of the tree, or proprietary, or without a signature.
    if taint & (1 << 0 | 1 << 12 | 1 << 13) == 0, let log = try? look.log() {
      for record in log.records where record.facility == 0 {
        let text = record.text.printable
        guard
          text.contains(": loading out-of-tree module taints kernel") || text.contains("module verification failed: ")
        else { continue }
        evidence.append(.init("the log", seen: text, expected: "bits 12 or 13 in tainted_mask, which is \(hex(taint))"))
      }
    }
    guard !evidence.isEmpty else { return Sightings(faults: modules.faults) }
    return Sightings(
      [
        Sighting(
          [.host], .critical, .proven, "the kernel's taint was cleared: it is \(hex(taint)), and more was there",
          evidence: evidence)
      ], faults: modules.faults)
  }

  private static func hex(_ value: UInt64) -> String { "0x\(String(value, radix: 16))" }
}
