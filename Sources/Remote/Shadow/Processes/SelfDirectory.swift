import Glibc
import LinuxKernel
import Memory

/// /proc/self: of a process that the host does not have, but for its number.
///
/// Who reads is a process of this machine, and none of the host's. Tools that look for themselves find one by their own number,
/// unless the host has a process of that number; what `self` shows of a namespace is that of the host's first process.
struct SelfDirectory: Sendable {
  let host: ShadowHost
  /// The number of who asks, zero where that is unknown.
  let pid: Int32

  func node() -> ShadowNode {
    let (host, pid) = (host, pid)
    @Sendable func first() throws -> ProcessRecord { try host.thread(1) }
    let name = Array("shadow".utf8)
    @Sendable func stat() -> [UInt8] {
      Array(
        "\(pid) (shadow) R 0 \(pid) \(pid) 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 0 0 0 18446744073709551615".utf8)
        + Array(String(repeating: " 0", count: 27).utf8) + [10]
    }
    /// With the user who mounts, whose processes `ps` lists where it is not told whose.
    @Sendable func status() -> [UInt8] {
      let zero = ProcText.hex(0, 16)
      func ids(_ effective: UInt32) -> String { Array(repeating: "\(effective)", count: 4).joined(separator: "\t") }
      var text = ProcText("Name:\tshadow\nState:\tR (running)\nTgid:\t\(pid)\nNgid:\t0\nPid:\t\(pid)\nPPid:\t0\n")
      text.line("TracerPid:\t0\nUid:\t\(ids(geteuid()))\nGid:\t\(ids(getegid()))\nFDSize:\t0\nGroups:\t ")
      text.line("Threads:\t1\nSigQ:\t0/0")
      for set in ["SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"] { text.line("\(set):\t\(zero)") }
      text.line("voluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_switches:\t0")
      return text.bytes
    }
    return .directory([
      "stat": .file { stat() }, "status": .file { status() }, "statm": .file { Array("0 0 0 0 0 0 0\n".utf8) },
      "comm": .file { name + [10] }, "cmdline": .file { name + [0] },
      "mounts": .file { try MountFile.mounts(first().task, host) },
      "mountinfo": .file { try MountFile.mountInfo(first().task, host) },
      "net": NetworkFiles.directory(host) { try first().task },
      "task": .directory(
        list: { [.init(name: "\(pid)", node: .directory(["stat": .file { stat() }]))] },
        find: { name in name == "\(pid)" ? .directory(["stat": .file { stat() }]) : nil }),
    ])
    .owned { $0.isEverybodys = false }
  }
}
