import Glibc
import LinuxKernel
import Memory
import Shadow

/// What of the file system a program finds replaced.
enum ShadowRoom {
  /// The tree that is mounted from.
  static func tree(
    of kernel: Kernel, besides answers: HostAnswers, hiddenModules: @escaping @Sendable () -> [VirtualAddress],
    visitors: Visitors
  ) -> ShadowNode {
    .directory([
      "proc": ProcTree.directory(besides: answers, hiddenModules: hiddenModules, visitors: visitors),
      // The program's own processes' /proc is mounted here.
      "own": .directory(named: []),
      "sys": SystemTree.directory(of: kernel), "kmsg": LogFile.node(of: kernel),
      "passwd": HostFiles.file("/etc/passwd", of: kernel, orEmpty: true),
      "group": HostFiles.file("/etc/group", of: kernel, orEmpty: true),
      "os-release": HostFiles.file("/usr/lib/os-release", of: kernel),
      "utmp": HostFiles.file("/run/utmp", of: kernel),
      "wtmp": HostFiles.file("/var/log/wtmp", of: kernel), "btmp": HostFiles.file("/var/log/btmp", of: kernel),
      "lastlog": HostFiles.file("/var/log/lastlog", of: kernel),
      "nsswitch": .file { Array("passwd: files\ngroup: files\nshadow: files\nhosts: files\n".utf8) },
    ])
  }

  /// Where its parts go.
  static func mounts(from folder: String) -> [Sandbox.Mount] {
    [
      .init(source: folder + "/proc", target: "/proc"), .init(source: folder + "/sys", target: "/sys"),
      .init(source: folder + "/kmsg", target: "/dev/kmsg"), .init(source: nil, target: "/run"),
      .init(source: folder + "/utmp", target: "/run/utmp"),
      .init(source: folder + "/passwd", target: "/etc/passwd"), .init(source: folder + "/group", target: "/etc/group"),
      .init(source: folder + "/os-release", target: "/etc/os-release"),
      // Names of users come from files only, not from services of this machine.
      .init(source: folder + "/nsswitch", target: "/etc/nsswitch.conf"),
    ]
      // Who was there: where this machine has such a list, the host's lies over it.
      + ["wtmp", "btmp", "lastlog"].filter { access("/var/log/" + $0, F_OK) == 0 }.map { name in
        .init(source: folder + "/" + name, target: "/var/log/" + name)
      }
  }
}
