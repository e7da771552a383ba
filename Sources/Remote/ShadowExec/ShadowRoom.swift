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
      "machine-id": HostFiles.file("/etc/machine-id", of: kernel),
      "utmp": HostFiles.file("/run/utmp", of: kernel),
      "wtmp": HostFiles.file("/var/log/wtmp", of: kernel), "btmp": HostFiles.file("/var/log/btmp", of: kernel),
      "lastlog": HostFiles.file("/var/log/lastlog", of: kernel),
      "nsswitch": .file { Array("passwd: files\ngroup: files\nshadow: files\nhosts: files\n".utf8) },
    ])
  }

  /// Where its parts go.
  static func mounts(from folder: String) -> [Sandbox.Mount] {
    func part(_ name: String, _ target: String) -> Sandbox.Mount { .init(source: folder + "/" + name, target: target) }
    func isHere(_ path: String) -> Bool { access(path, F_OK) == 0 }
    var mounts = [
      part("proc", "/proc"), part("sys", "/sys"), part("kmsg", "/dev/kmsg"), .init(source: nil, target: "/run"),
      part("utmp", "/run/utmp"), part("passwd", "/etc/passwd"), part("group", "/etc/group"),
      part("os-release", "/etc/os-release"),
      // Names of users come from files only, not from services of this machine.
      part("nsswitch", "/etc/nsswitch.conf"),
    ]
    // Who was there: where this machine has such a list, the host's lies over it.
    for name in ["wtmp", "btmp", "lastlog"] where isHere("/var/log/" + name) {
      mounts.append(part(name, "/var/log/" + name))
    }
    // The journal and the files of modules are this machine's, and who reads them would take them for the host's.
    for path in ["/var/log/journal", "/usr/lib/modules"] where isHere(path) {
      mounts.append(.init(source: nil, target: path))
    }
    if isHere("/etc/machine-id") { mounts.append(part("machine-id", "/etc/machine-id")) }
    return mounts
  }
}
