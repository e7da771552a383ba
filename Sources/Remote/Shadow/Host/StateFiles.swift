import Binding
import CodeViews
import KernelInfo
import LinuxKernel
import MachineViews
import Memory
import Paging

/// Files of /proc that say in few lines how the host does: pressure, control groups, consoles.
enum StateFiles {
  /// The directory /proc/pressure; nil where this kernel was built or booted without it.
  ///
  /// Source: kernel/sched/psi.c, `psi_show`. The host brings its totals up to date when it is asked itself.
  static func pressure(_ kernel: Kernel) throws -> ShadowNode? {
    guard kernel.symbols.address(of: "psi_system") != nil else { return nil }
    // PSI_DEFAULT_DISABLED, psi=0.
    if let key = kernel.symbols.address(of: "psi_disabled"), try kernel.isSwitchedOn(key) { return nil }
    let resources = try kernel.pressure().map(\.resource)
    return .directory(
      named: resources.map { resource in (resource.rawValue, .file { try pressure(resource, kernel) }) })
  }

  private static func pressure(_ resource: Pressure.Resource, _ kernel: Kernel) throws -> [UInt8] {
    guard let pressure = try kernel.pressure().first(where: { $0.resource == resource }) else {
      throw ShadowError.missing
    }
    var text = ProcText()
    for (name, stall) in [("some", pressure.some), ("full", pressure.full)] {
      guard let stall else { continue }
      // Of the CPUs there is no time in which nothing could go on for the host as a whole.
      let isNone = resource == .cpu && name == "full"
      let averages = stall.averages.map { average -> String in
        let value = isNone ? 0 : UInt64(max(0, min(average * 2048, 1e15)))
        return "\(value >> 11).\(ProcText.padded("\(((value & 2047) * 100) >> 11)", 2, "0"))"
      }
      let labels = zip(["avg10", "avg60", "avg300"], averages).map { "\($0)=\($1)" }.joined(separator: " ")
      text.line("\(name) \(labels) total=\(isNone ? 0 : stall.total)")
    }
    return text.bytes
  }

  private struct Controller: KernelShape {
    static let type = "cgroup_subsys"
    let name = Field<VirtualAddress>("legacy_name"), root = Field<VirtualAddress>("root")
    let older = Field<VirtualAddress?>("legacy_cftypes"), files = Field<VirtualAddress?>("dfl_cftypes")
  }

  private struct Hierarchy: KernelShape {
    static let type = "cgroup_root"
    let number = Field<Int32>("hierarchy_id"), groups = Field<Int32>("nr_cgrps.counter")
  }

  /// /proc/cgroups.
  ///
  /// Source: kernel/cgroup/cgroup-v1.c, `proc_cgroupstats_show`.
  static func controlGroups(_ kernel: Kernel) throws -> [UInt8] {
    let count = Int(max(0, min(64, try kernel.constant("CGROUP_SUBSYS_COUNT"))))
    let controllers = try kernel.read(Controller.self, at: kernel.pointers(in: "cgroup_subsys", count: count))
    let names = kernel.addressSpace.strings(at: controllers.pointers(\.name))
    let roots = try kernel.read(Hierarchy.self, at: controllers.pointers(\.root))
    let keys = try kernel.pointers(in: "cgroup_subsys_enabled_key", count: count)
    var text = ProcText("#subsys_name\thierarchy\tnum_cgroups\tenabled\n")
    // From 6.14 on those are left out that have files of version 2 only.
    let leavesOut = try kernel.releaseNumbers() >= (6, 14)
    for (root, (name, key)) in zip(roots, zip(names, keys)) {
      let controller = controllers[root.index]
      if leavesOut, try controller.older == nil && controller.files != nil { continue }
      text.add(try name.get())
      text.line("\t\(try root.number)\t\(try root.groups)\t\(try kernel.isSwitchedOn(key) ? 1 : 0)")
    }
    return text.bytes
  }

  // MARK: Consoles

  private struct Console: KernelShape {
    static let type = "console"
    // A chain of its own until 6.2.
    let node = Place("node", before: "6.2, 3ef5abd9b5c7", "next"), isListed = Place(optional: "node")
    let name = Field<[UInt8]>("name"), index = Field<Int16>("index"), flags = Field<UInt16>("flags")
    let read = Field<VirtualAddress?>("read"), write = Field<VirtualAddress?>("write")
    let unblank = Field<VirtualAddress?>("unblank"), device = Field<VirtualAddress>("device")
    let data = Field<VirtualAddress>("data")
  }

  private struct TerminalDriver: KernelShape {
    static let type = "tty_driver"
    let major = Field<Int32>("major"), first = Field<Int32>("minor_start")
  }

  /// /proc/consoles.
  ///
  /// Source: fs/proc/consoles.c, `show_console_dev`.
  static func consoles(_ kernel: Kernel) throws -> [UInt8] {
    let shape = try kernel.bound(Console.self)
    let space = kernel.addressSpace
    var faults: [MemoryFault] = []
    let consoles: Structs<Console>
    if shape.shape.isListed.isPresent {
      let head = try kernel.symbol("console_list", for: "the consoles")
      consoles =
        space.lists(of: shape, through: \.node, heads: [head], form: .nullTerminated, limit: 4096, &faults).structs
    } else {
      let head = try kernel.symbol("console_drivers", for: "the consoles")
      consoles = space.chains(of: shape, through: \.node, heads: [head], limit: 4096, &faults).structs
    }
    if let fault = faults.first { throw fault }
    let map = try kernel.symbolMap()
    // CON_NBCON, from include/linux/console.h, is one of the letters since 6.8.
    let hasOwnWriters = try kernel.releaseNumbers() >= (6, 8)
    let letters: [(UInt16, String)] =
      [(4, "E"), (2, "C"), (8, "B")] + (hasOwnWriters ? [(256, "N")] : []) + [(1, "p"), (32, "b"), (16, "a")]
    var text = ProcText()
    for console in consoles {
      let flags = try console.flags
      let index = console.index
      let name = try console.name + Array("\(index)".utf8)
      text.add(name + [UInt8](repeating: 32, count: max(1, 21 - name.count)))
      text.add(try console.read == nil ? "-" : "R")
      // Such a console has functions of other names to write with.
      text.add(try console.write != nil || hasOwnWriters && flags & 256 != 0 ? "W" : "-")
      text.add(try console.unblank == nil ? "-" : "U")
      text.add(" (\(letters.map { flags & $0.0 == 0 ? " " : $0.1 }.joined()))")
      let function = try console.device
      let driver: VirtualAddress?
      var minor = Int32(index)
      switch function.rawValue == 0 ? "" : map.place(of: function)?.name ?? "?" {
      case "": driver = nil
      case "uart_console_device":
        driver = try kernel.pointers("tty_driver", of: "uart_driver", at: [console.data])[0]
      case "vt_console_device":
        driver = try kernel.addressSpace.pointer(at: kernel.symbol("console_driver", for: "the consoles"))
        minor = index > 0 ? Int32(index) - 1 : Int32(bitPattern: try kernel.number("fg_console"))
      case "hvc_console_device":
        driver = try kernel.addressSpace.pointer(at: kernel.symbol("hvc_driver", for: "the consoles"))
      case let other: throw ShadowError.unreadable("which device \(other) names")
      }
      if let driver, driver.rawValue != 0 {
        let own = try kernel.read(TerminalDriver.self, at: [driver])[0]
        text.add(" \(ProcText.padded("\(try own.major)", 4)):\(try own.first &+ minor)")
      }
      text.line("")
    }
    return text.bytes
  }
}
