import LinuxKernel
import Shadow

/// What of the file system a program finds replaced.
enum ShadowRoom {
  /// The tree that is mounted from.
  static func tree(of kernel: Kernel, visitors: Visitors) throws -> ShadowNode {
    .directory([
      "proc": try ProcTree.directory(of: kernel, visitors: visitors),
      // The program's own processes' /proc is mounted here.
      "own": .directory(named: []),
      "sys": .directory(named: []),
      "nsswitch": .file { Array("passwd: files\ngroup: files\nshadow: files\nhosts: files\n".utf8) },
    ])
  }

  /// Where its parts go.
  static func mounts(from folder: String) -> [Sandbox.Mount] {
    [
      .init(source: folder + "/proc", target: "/proc"), .init(source: folder + "/sys", target: "/sys"),
      .init(source: nil, target: "/run"),
      // Names of users come from files only, not from services of this machine.
      .init(source: folder + "/nsswitch", target: "/etc/nsswitch.conf"),
    ]
  }
}
