import CDeviceSources

/// The detectors that come with GRASS, as their C source has them.
public enum BuiltInDetectors {
  /// Binds all of them to a kernel.
  ///
  /// One that the kernel lacks something for is left out, and the others look without it.
  ///
  /// - Returns: those that fit, and why others do not.
  public static func bound(to kernel: KernelNames) -> (monitors: [BoundMonitor], refused: [LLViewError]) {
    var monitors: [BoundMonitor] = []
    var refused: [LLViewError] = []
    for (file, source) in DeviceSources.list(GRASS_DETECTOR) {
      do throws(LLViewError) {
        let name = FrontEnd.name(of: file)
        let folder = try TemporaryFolder(for: name)
        try folder.write(source, file)
        monitors.append(try BoundMonitor(try FrontEnd().compile("\(folder.path)/\(file)"), name: name, for: kernel))
      } catch {
        refused.append(error)
      }
    }
    return (monitors, refused)
  }
}
