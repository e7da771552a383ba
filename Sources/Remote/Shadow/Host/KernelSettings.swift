import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// The kernel's names, its banner, and the id of its boot.
enum KernelSettings {
  private struct Names: KernelShape {
    static let type = "uts_namespace"
    let system = Field<[UInt8]>("name.sysname"), node = Field<[UInt8]>("name.nodename")
    let release = Field<[UInt8]>("name.release"), version = Field<[UInt8]>("name.version")
    let domain = Field<[UInt8]>("name.domainname")
  }

  /// What uname says: system, node, release, version, domain.
  static func names(_ kernel: Kernel) throws -> [[UInt8]] {
    let names = try kernel.read(Names.self, at: [kernel.symbol("init_uts_ns", for: "the host's names")])[0]
    return [try names.system, try names.node, try names.release, try names.version, try names.domain]
  }

  /// /proc/version.
  static func banner(_ kernel: Kernel) throws -> [UInt8] {
    let address = try kernel.symbol("linux_proc_banner", for: "the kernel's version")
    let format = try kernel.addressSpace.strings(at: [address], limit: 1024)[0].get()
    let names = try self.names(kernel)
    var values = [names[0], names[2], names[3]][...]
    var text: [UInt8] = []
    var index = 0
    while index < format.count {
      if format[index] == UInt8(ascii: "%"), index + 1 < format.count, format[index + 1] == UInt8(ascii: "s") {
        text += values.popFirst() ?? []
        index += 2
      } else {
        text.append(format[index])
        index += 1
      }
    }
    return text
  }

  /// The id of this boot as /proc/sys/kernel/random/boot_id has it.
  static func bootID(_ kernel: Kernel) throws -> [UInt8] {
    let bytes = try kernel.addressSpace.read(try kernel.symbol("sysctl_bootid", for: "the boot's id"), count: 16)
    // It is made when it is read for the first time, and then has a version in this byte.
    guard bytes[8] != 0 else { throw ShadowError.unreadable("the host has not made an id of its boot yet") }
    let digits = bytes.map { ProcText.hex(UInt64($0), 2) }
    let groups = [0..<4, 4..<6, 6..<8, 8..<10, 10..<16].map { digits[$0].joined() }
    return Array((groups.joined(separator: "-") + "\n").utf8)
  }
}
