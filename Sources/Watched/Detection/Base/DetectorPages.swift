/// The documentation of the detectors, from their declarations.
public enum DetectorPages {
  /// Who asks a detector: a check, devices, or both.
  public static func place(of detector: any Detector.Type) -> String {
    if detector is SilentDevice.Type { return "watch" }
    let isDevices = DeviceDetectors.names.contains(detector.name)
    return detector is any DeviceOnly.Type ? "device" : isDevices ? "check, device" : "check"
  }

  /// All pages as one text in Markdown.
  public static var text: String {
    var text = """
      # Detectors

      What `grassctl check` and a device's own detectors (`grassd --detectors`) look for. This page is made from their \
      declarations: `grassctl detectors --markdown > docs/detectors.md`.


      """
    for kind in Finding.Kind.allCases {
      let detectors = Detectors.all.filter { $0.kind == kind }
      if detectors.isEmpty { continue }
      text += "## \(["fault": "Faults", "attack": "Attacks", "change": "Changes"][kind.rawValue] ?? kind.rawValue)\n\n"
      for detector in detectors { text += page(of: detector) }
    }
    return text
  }

  private static func page(of detector: any Detector.Type) -> String {
    let looks = detector.needsOneLook || detector is any DeviceOnly.Type ? "" : "Two looks have to agree. "
    let techniques = detector.techniques.isEmpty ? "" : " ATT&CK: \(detector.techniques.joined(separator: ", "))."
    return """
      ### \(detector.name)

      \(detector.summary)

      - **Rule.** \(detector.rule)
      - **Looks like it.** \(detector.looksLike)
      - **Next.** \(detector.remedy)
      - \(looks)Compared with: \(detector.baseline.rawValue). Asked by: \(place(of: detector)).\(techniques)


      """
  }
}
