import Binding
public import KernelViews
import Memory

/// Another kernel waits to take this one's place.
public struct KexecLoaded: Detector {
  public static let name = "kexec-loaded"
  public static let kind = Finding.Kind.change
  public static let summary =
    "Another kernel is loaded, and takes this one's place at the next reboot, without firmware or boot loader."
  public static let rule =
    "kexec_image leads to an image. One for crashes (kexec_crash_image) belongs to kdump and is right."
  public static let looksLike = "Reboots that skip the firmware, as kexec-tools and some updates do: it is a notice."
  public static let remedy = "See who loaded it: grassctl ps. kexec -u takes it out."
  public static let techniques = ["T1601"]
  public static let baseline = Finding.Baseline.tables

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    guard let image = try look.number("kexec_image", size: 8), image != 0 else { return Sightings() }
    return Sightings([
      Sighting(
        [.host], .notice, .proven, "another kernel is loaded and takes this one's place at the next reboot",
        evidence: [
          .init(
            "kexec_image", at: look.kernel.symbols.address(of: "kexec_image"), seen: "0x\(String(image, radix: 16))",
            expected: "none")
        ], persists: [image])
    ])
  }
}
