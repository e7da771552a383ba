/// The detectors that come with GRASS, as their C source has them.
public enum BuiltInDetectors {
  /// Each one's name and source.
  private static let sources: [(name: String, source: [UInt8])] = [
    ("detect_clock", PackageResources.detect_clock_c), ("detect_panic", PackageResources.detect_panic_c),
    ("detect_taint", PackageResources.detect_taint_c), ("detect_memory", PackageResources.detect_memory_c),
    ("detect_cpus", PackageResources.detect_cpus_c), ("detect_tasks", PackageResources.detect_tasks_c),
    ("detect_rcu", PackageResources.detect_rcu_c), ("detect_shares", PackageResources.detect_shares_c),
    ("detect_words", PackageResources.detect_words_c),
  ]

  /// Binds all of them to a kernel.
  ///
  /// One that the kernel lacks something for is left out, and the others look without it.
  ///
  /// - Returns: those that fit, and why others do not.
  public static func bound(to kernel: KernelNames) -> (monitors: [BoundMonitor], refused: [LLViewError]) {
    var monitors: [BoundMonitor] = []
    var refused: [LLViewError] = []
    for (name, source) in sources {
      do throws(LLViewError) {
        let folder = try TemporaryFolder(for: name)
        try folder.write(source, "\(name).c")
        monitors.append(
          try BoundMonitor(try FrontEnd().compile("\(folder.path)/\(name).c"), name: name, for: kernel))
      } catch {
        refused.append(error)
      }
    }
    return (monitors, refused)
  }
}
