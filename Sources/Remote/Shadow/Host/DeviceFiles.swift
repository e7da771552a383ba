import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// The lines of /proc/devices, /proc/misc, /proc/consoles and /proc/tty/drivers.
enum DeviceFiles {
  private struct Characters: KernelShape {
    static let type = "char_device_struct"
    let next = Place("next"), major = Field<UInt32>("major"), name = Field<[UInt8]>("name")
  }

  private struct Blocks: KernelShape {
    static let type = "blk_major_name"
    let next = Place("next"), major = Field<UInt32>("major"), name = Field<[UInt8]>("name")
  }

  private struct Misc: KernelShape {
    static let type = "miscdevice"
    let link = Place("list"), minor = Field<Int32>("minor"), name = Field<VirtualAddress>("name")
  }

  private struct Driver: KernelShape {
    static let type = "tty_driver"
    let link = Place("tty_drivers"), driver = Field<VirtualAddress>("driver_name"), name = Field<VirtualAddress>("name")
    let major = Field<UInt32>("major"), first = Field<UInt32>("minor_start"), count = Field<UInt32>("num")
    let type = Field<Int16>("type"), subtype = Field<Int16>("subtype")
  }

  /// More devices than a host has numbers for.
  private static let limit = 1 << 16
  /// Buckets of both tables of majors (CHRDEV_MAJOR_HASH_SIZE, BLKDEV_MAJOR_HASH_SIZE), and how many majors are asked for.
  private static let (buckets, majors) = (255, 512 as UInt32)

  /// /proc/devices.
  ///
  /// Source: fs/char_dev.c, `chrdev_show`; block/genhd.c, `blkdev_show`.
  static func numbers(_ kernel: Kernel) throws -> [UInt8] {
    var faults: [MemoryFault] = []
    func heads(_ name: String) throws -> [VirtualAddress] {
      let table = try kernel.symbol(name, for: "the devices' numbers")
      return (0..<buckets).map { table + $0 * 8 }
    }
    let characters = kernel.addressSpace.chains(
      of: try kernel.bound(Characters.self), through: \.next, heads: try heads("chrdevs"), limit: limit, &faults
    ).structs.compactMap(&faults) { (entry) throws(MemoryFault) in (try entry.major, try entry.name) }
    let blocks = kernel.addressSpace.chains(
      of: try kernel.bound(Blocks.self), through: \.next, heads: try heads("major_names"), limit: limit, &faults
    ).structs.compactMap(&faults) { (entry) throws(MemoryFault) in (try entry.major, try entry.name) }
    if let fault = faults.first { throw fault }
    var text = ProcText()
    for (heading, list) in [("Character devices:", characters), ("\nBlock devices:", blocks)] {
      text.line(heading)
      // In the order of the numbers, and of one number in that of its bucket.
      let sorted = list.enumerated().sorted { ($0.element.0, $0.offset) < ($1.element.0, $1.offset) }.map(\.element)
      for (major, name) in sorted where major < majors {
        text.add("\(ProcText.padded("\(major)", 3)) ")
        text.add(name)
        text.line("")
      }
    }
    return text.bytes
  }

  /// /proc/misc.
  ///
  /// Source: drivers/char/misc.c, `misc_seq_show`.
  static func miscellaneous(_ kernel: Kernel) throws -> [UInt8] {
    var faults: [MemoryFault] = []
    let devices = kernel.addressSpace.list(
      of: try kernel.bound(Misc.self), through: \.link, head: try kernel.symbol("misc_list", for: "the devices"),
      limit: limit, &faults)
    let names = kernel.addressSpace.strings(at: devices.pointers(\.name), &faults)
    if let fault = faults.first { throw fault }
    var text = ProcText()
    for (device, name) in zip(devices, names) {
      text.add("\(ProcText.padded("\(try device.minor)", 3)) ")
      text.add(name)
      text.line("")
    }
    return text.bytes
  }

  /// /proc/tty/drivers.
  ///
  /// Source: fs/proc/proc_tty.c, `show_tty_driver`.
  static func terminals(_ kernel: Kernel) throws -> [UInt8] {
    var faults: [MemoryFault] = []
    let drivers = kernel.addressSpace.list(
      of: try kernel.bound(Driver.self), through: \.link, head: try kernel.symbol("tty_drivers", for: "the terminals"),
      limit: limit, &faults)
    let owners = kernel.addressSpace.strings(at: drivers.pointers(\.driver), &faults)
    let names = kernel.addressSpace.strings(at: drivers.pointers(\.name), &faults)
    if let fault = faults.first { throw fault }
    var text = ProcText()
    func add(_ driver: [UInt8], _ name: [UInt8], _ numbers: String, _ kind: String) {
      func filled(_ text: [UInt8], _ width: Int) -> [UInt8] {
        text + [UInt8](repeating: 32, count: max(0, width - text.count))
      }
      text.add(filled(driver, 20) + Array(" /dev/".utf8) + filled(name, 8))
      text.line(" \(numbers) \(kind)")
    }
    func numbers(_ major: UInt32, _ minor: UInt32) -> String {
      "\(ProcText.padded("\(major)", 3)) \(ProcText.padded("\(minor)", 7))"
    }
    func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }
    if !drivers.isEmpty {
      add(bytes("/dev/tty"), bytes("tty"), numbers(5, 0), "system:/dev/tty")
      add(bytes("/dev/console"), bytes("console"), numbers(5, 1), "system:console")
      // Where the kernel has terminals of this kind at all.
      if kernel.symbols.address(of: "ptm_driver") != nil {
        add(bytes("/dev/ptmx"), bytes("ptmx"), numbers(5, 2), "system")
      }
      if kernel.symbols.address(of: "vc_cons") != nil {
        add(bytes("/dev/vc/0"), bytes("vc/0"), numbers(4, 0), "system:vtmaster")
      }
    }
    for driver in drivers {
      // Numbered from 0 on since 6.16, before from 1 on by macros.
      let base = Int16(truncatingIfNeeded: kernel.types.enumerator("TTY_DRIVER_TYPE_SYSTEM") ?? 1)
      let (type, subtype) = (try driver.type &- base &+ 1, try driver.subtype)
      // TTY_DRIVER_TYPE_*, SYSTEM_TYPE_*, PTY_TYPE_*, from include/linux/tty_driver.h.
      let kind =
        switch (type, subtype) {
        case (1, 1): "system:/dev/tty"
        case (1, 2): "system:vtmaster"
        case (1, 3): "system:console"
        case (1, _): "system"
        case (2, _): "console"
        case (3, _): "serial"
        case (4, 1): "pty:master"
        case (4, 2): "pty:slave"
        case (4, _): "pty"
        default: "type:\(type).\(subtype)"
        }
      let owner = try driver.driver.rawValue == 0 ? bytes("unknown") : owners[driver.index]
      // MINORBITS is 20: a driver with more numbers than one major has takes the next one, too.
      var from = UInt64(try driver.major) << 20 | UInt64(try driver.first)
      let to = from + UInt64(try driver.count)
      let isOne = try driver.count <= 1
      while from < to {
        let end = min(to, (from >> 20 + 1) << 20)
        let (major, minor) = (UInt32(truncatingIfNeeded: from >> 20), UInt32(from & 0xfffff))
        add(
          owner, names[driver.index],
          isOne
            ? numbers(major, minor) : "\(ProcText.padded("\(major)", 3)) \(minor)-\(UInt64(minor) + (end - from) - 1)",
          kind)
        from = end
      }
    }
    return text.bytes
  }
}
