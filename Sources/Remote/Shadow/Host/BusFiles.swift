import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// The lines of /proc/bus/input/devices, /proc/bus/input/handlers, /proc/bus/pci/devices and /proc/fb.
enum BusFiles {
  /// More than a host has.
  private static let limit = 1 << 16

  // MARK: Input

  private struct Input: KernelShape {
    static let type = "input_dev"
    let node = Place("node"), name = Field<VirtualAddress>("name"), place = Field<VirtualAddress>("phys")
    let unique = Field<VirtualAddress>("uniq"), handles = Place("h_list"), object = Place("dev.kobj")
    let bus = Field<UInt16>("id.bustype"), vendor = Field<UInt16>("id.vendor"), product = Field<UInt16>("id.product")
    let version = Field<UInt16>("id.version")
    let properties = Field<[UInt64]>("propbit"), events = Field<[UInt64]>("evbit"), keys = Field<[UInt64]>("keybit")
    let relative = Field<[UInt64]>("relbit"), absolute = Field<[UInt64]>("absbit"), other = Field<[UInt64]>("mscbit")
    let lights = Field<[UInt64]>("ledbit"), sounds = Field<[UInt64]>("sndbit"), forces = Field<[UInt64]>("ffbit")
    let switches = Field<[UInt64]>("swbit")
  }

  private struct Handle: KernelShape {
    static let type = "input_handle"
    let link = Place("d_node"), name = Field<VirtualAddress>("name")
  }

  private struct Handler: KernelShape {
    static let type = "input_handler"
    let link = Place("node"), name = Field<VirtualAddress>("name"), filter = Field<VirtualAddress?>("filter")
    let hasMinors = Field<Bool>("legacy_minors"), minor = Field<Int32>("minor")
  }

  /// Source: drivers/input/input.c, `input_devices_seq_show`.
  static func inputDevices(_ kernel: Kernel) throws -> [UInt8] {
    let space = kernel.addressSpace
    var faults: [MemoryFault] = []
    let devices = space.list(
      of: try kernel.bound(Input.self), through: \.node,
      head: try kernel.symbol("input_dev_list", for: "the input devices"), limit: limit, &faults)
    let names = space.strings(at: devices.pointers(\.name)), places = space.strings(at: devices.pointers(\.place))
    let unique = space.strings(at: devices.pointers(\.unique))
    let paths = try KernelObjects(kernel).paths(of: devices.map { $0.address(of: \.object) }, kernel)
    let handles = space.lists(
      of: try kernel.bound(Handle.self), through: \.link, heads: devices.map { $0.address(of: \.handles) },
      limit: limit, &faults)
    let titles = space.strings(at: handles.structs.pointers(\.name), &faults)
    if let fault = faults.first { throw fault }
    var text = ProcText()
    func hex(_ value: UInt16) -> String { ProcText.hex(UInt64(value), 4) }
    func line(_ label: String, _ value: [UInt8], quoted: Bool = false) {
      text.add(label)
      text.add(quoted ? [34] + value + [34] : value)
      text.line("")
    }
    for (index, device) in devices.enumerated() {
      text.line(
        "I: Bus=\(hex(try device.bus)) Vendor=\(hex(try device.vendor)) Product=\(hex(try device.product)) "
          + "Version=\(hex(try device.version))")
      line("N: Name=", try names[index].get(), quoted: true)
      line("P: Phys=", try places[index].get())
      line("S: Sysfs=", paths[index])
      line("U: Uniq=", try unique[index].get())
      text.add("H: Handlers=")
      for (owner, title) in zip(handles.owners, titles) where owner == index { text.add(title + [32]) }
      text.line("")
      let events = try device.events
      text.line("B: PROP=\(bits(try device.properties))")
      text.line("B: EV=\(bits(events))")
      // EV_KEY, EV_REL, EV_ABS, EV_MSC, EV_LED, EV_SND, EV_FF, EV_SW, from include/uapi/linux/input-event-codes.h.
      let kinds = [
        (1, "KEY", try device.keys), (2, "REL", try device.relative), (3, "ABS", try device.absolute),
        (4, "MSC", try device.other), (0x11, "LED", try device.lights), (0x12, "SND", try device.sounds),
        (0x15, "FF", try device.forces), (5, "SW", try device.switches),
      ]
      for (bit, name, set) in kinds where (events.first ?? 0) >> UInt64(bit) & 1 != 0 {
        text.line("B: \(name)=\(bits(set))")
      }
      text.line("")
    }
    return text.bytes
  }

  /// Words from the highest that has a bit on.
  private static func bits(_ words: [UInt64]) -> String {
    let shown = words.reversed().drop { $0 == 0 }.map { String($0, radix: 16) }
    return shown.isEmpty ? "0" : shown.joined(separator: " ")
  }

  /// Source: drivers/input/input.c, `input_handlers_seq_show`.
  static func inputHandlers(_ kernel: Kernel) throws -> [UInt8] {
    var faults: [MemoryFault] = []
    let handlers = kernel.addressSpace.list(
      of: try kernel.bound(Handler.self), through: \.link,
      head: try kernel.symbol("input_handler_list", for: "the handlers of input"), limit: limit, &faults)
    let names = kernel.addressSpace.strings(at: handlers.pointers(\.name), &faults)
    if let fault = faults.first { throw fault }
    var text = ProcText()
    for (index, (handler, name)) in zip(handlers, names).enumerated() {
      text.add("N: Number=\(index) Name=")
      text.add(name)
      if try handler.filter != nil { text.add(" (filter)") }
      if try handler.hasMinors { text.add(" Minor=\(try handler.minor)") }
      text.line("")
    }
    return text.bytes
  }

  // MARK: PCI

  /// /proc/bus/pci/devices.
  ///
  /// Source: drivers/pci/proc.c, `show_device`.
  static func devices(_ kernel: Kernel) throws -> [UInt8] {
    let reader = try kernel.reader(PCIDevices.self)
    func hex(_ value: UInt64) -> String { ProcText.padded(String(value, radix: 16), 16) }
    var text = ProcText()
    for found in try reader.read(kernel) {
      let device = found.device
      text.add("\(ProcText.hex(UInt64(found.bus), 2))\(ProcText.hex(UInt64(try device.function & 255), 2))\t")
      text.add("\(ProcText.hex(UInt64(try device.vendor), 4))\(ProcText.hex(UInt64(try device.device), 4))\t")
      text.add(String(try device.line, radix: 16))
      let ranges = reader.ranges(of: device, 7, kernel)
      // The lowest four bits say what the window is for.
      for range in ranges { text.add("\t\(hex(try range.start | range.flags & 15))") }
      for range in ranges { text.add("\t\(hex(try range.start < range.end ? range.end &- range.start &+ 1 : 0))") }
      text.add("\t")
      text.add(found.driver)
      text.line("")
    }
    return text.bytes
  }

  // MARK: Frame buffers

  private struct Screen: KernelShape {
    static let type = "fb_info"
    let number = Field<Int32>("node"), name = Field<[UInt8]>("fix.id")
  }

  /// Source: drivers/video/fbdev/core/fb_procfs.c, `fb_seq_show`.
  static func screens(_ kernel: Kernel) throws -> [UInt8] {
    // FB_MAX.
    let screens = try kernel.pointers(in: "registered_fb", count: 32).filter { $0.rawValue != 0 }
    var text = ProcText()
    // Without a screen there is no driver, and perhaps no type of one.
    guard !screens.isEmpty else { return [] }
    for screen in kernel.addressSpace.read(try kernel.moduleBound(Screen.self), at: screens) {
      text.add("\(try screen.number) ")
      text.add(try screen.name)
      text.line("")
    }
    return text.bytes
  }
}

/// Where the kernel's objects are in /sys.
///
/// Source: lib/kobject.c, `kobject_get_path`.
struct KernelObjects {
  private struct Object: KernelShape {
    static let type = "kobject"
    let name = Field<VirtualAddress>("name"), parent = Field<VirtualAddress>("parent")
  }

  /// No object lies deeper.
  private static let deepest = 64

  private let object: Bound<Object>

  init(_ kernel: Kernel) throws { object = try kernel.bound() }

  /// Cost: two round trips a level.
  func paths(of objects: [VirtualAddress], _ kernel: Kernel) throws -> [[UInt8]] {
    var paths = [[UInt8]](repeating: [], count: objects.count)
    var level = Array(objects.enumerated())
    for _ in 0..<Self.deepest {
      guard !level.isEmpty else { return paths }
      let own = kernel.addressSpace.read(object, at: level.map(\.element))
      let names = kernel.addressSpace.strings(at: own.pointers(\.name))
      for (item, name) in zip(level, names) { paths[item.offset] = [47] + (try name.get()) + paths[item.offset] }
      level = try zip(level, own).map { (offset: $0.offset, element: try $1.parent) }.filter {
        $0.element.rawValue != 0
      }
    }
    throw ShadowError.unreadable("an object of the kernel that lies more than \(Self.deepest) deep")
  }
}
