import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// The devices on the PCI buses, and the directory /sys/bus/pci/devices.
///
/// What only the device itself could say (`config`) is not here.
///
/// Source: drivers/pci/pci-sysfs.c.
struct PCIDevices: KernelReader {
  static let subject = "the devices on the PCI buses"

  private struct Bus: KernelShape {
    static let type = "pci_bus"
    let link = Place("node"), devices = Place("devices"), number = Field<UInt8>("number")
    let system = Field<VirtualAddress>("sysdata")
  }

  struct Device: KernelShape {
    static let type = "pci_dev"
    let link = Place("bus_list"), below = Field<VirtualAddress>("subordinate"), function = Field<UInt32>("devfn")
    let vendor = Field<UInt16>("vendor"), device = Field<UInt16>("device"), line = Field<UInt32>("irq")
    let ownVendor = Field<UInt16>("subsystem_vendor"), ownDevice = Field<UInt16>("subsystem_device")
    let kind = Field<UInt32>("class"), revision = Field<UInt8>("revision"), node = Field<Int32>("dev.numa_node")
    let driver = Field<VirtualAddress>("driver"), ranges = ArrayPlace("resource", most: 64)
    let bus = Field<VirtualAddress>("bus")
  }

  struct Range: KernelShape {
    static let type = "resource"
    let start = Field<UInt64>("start"), end = Field<UInt64>("end"), flags = Field<UInt64>("flags")
  }

  private struct Driver: KernelShape {
    static let type = "pci_driver"
    let name = Field<VirtualAddress>("name")
  }

  private let bus: Bound<Bus>, device: Bound<Device>, range: Bound<Range>
  private let roots: VirtualAddress
  /// Where a bus's `sysdata` has the number of its domain (`struct pci_sysdata`).
  private let domain: Int?

  /// More than a host has.
  private static let limit = 1 << 16

  init(kernel: Kernel) throws {
    (bus, device, range) = try kernel.types.bind()
    roots = try kernel.symbol("pci_root_buses", for: Self.self)
    domain = try? kernel.types.structure("pci_sysdata").field("domain").offset
  }

  struct Found: Sendable {
    var domain: Int32
    var bus: UInt8
    var device: Reading<Device>
    /// The name of its driver, empty without one.
    var driver: [UInt8]
  }

  /// The devices bus by bus, as they were found.
  ///
  /// Cost: some round trips a bus.
  func read(_ kernel: Kernel) throws -> [Found] {
    let space = kernel.addressSpace
    var faults: [MemoryFault] = []
    let top = space.list(of: bus, through: \.link, head: roots, limit: Self.limit, &faults)
    var waiting = Array(top.addresses.reversed())
    var seen: Set<VirtualAddress> = []
    var found: [Found] = []
    while let place = waiting.popLast() {
      guard seen.insert(place).inserted, seen.count <= Self.limit else {
        throw ShadowError.unreadable("a bus that lies below itself")
      }
      let own = space.read(bus, at: [place])[0]
      let devices = space.list(
        of: device, through: \.link, head: own.address(of: \.devices), limit: Self.limit, &faults)
      if let fault = faults.first { throw fault }
      let drivers = try kernel.read(Driver.self, at: devices.pointers(\.driver))
      let names = space.strings(at: drivers.pointers(\.name))
      var number: Int32 = 0
      if let domain, try own.system.rawValue != 0 { number = try space.load(own.system + domain) }
      for item in devices {
        found.append(
          Found(
            domain: number, bus: try own.number, device: item,
            driver: try item.driver.rawValue == 0 ? [] : names[item.index].get()))
      }
      waiting += devices.pointers(\.below).filter { $0.rawValue != 0 }.reversed()
    }
    return found
  }

  /// The first `count` windows of a device: six of its own, and its ROM.
  func ranges(of device: Reading<Device>, _ count: Int, _ kernel: Kernel) -> Structs<Range> {
    kernel.addressSpace.read(range, at: Array(device.shape.ranges.places(of: device.address).prefix(count)))
  }

  // MARK: /sys

  /// Nil where the kernel was built without.
  static func directory(_ kernel: Kernel) -> ShadowNode? {
    guard kernel.symbols.address(of: "pci_root_buses") != nil else { return nil }
    return .directory([
      "devices": .listing { try entries(kernel) }
    ])
  }

  private static func entries(_ kernel: Kernel) throws -> [ShadowNode.Entry] {
    let reader = try kernel.reader(Self.self)
    return try reader.read(kernel).map { found in
      let device = found.device
      @Sendable func hex(_ value: UInt64, _ width: Int) -> String { "0x" + ProcText.hex(value, width) }
      func file(_ name: String, _ text: String) -> ShadowNode.Entry {
        .init(name: name, node: .file { Array((text + "\n").utf8) })
      }
      let function = try device.function
      let name =
        "\(ProcText.hex(UInt64(UInt32(bitPattern: found.domain)), 4)):\(ProcText.hex(UInt64(found.bus), 2)):"
        + "\(ProcText.hex(UInt64(function >> 3 & 31), 2)).\(function & 7)"
      // A bridge has windows of its own behind those that all have, which only it shows (PCI_BRIDGE_RESOURCES).
      let all = device.shape.ranges.count
      let count = try device.below.rawValue == 0 ? max(0, all - 4) : all
      var files = [
        file("vendor", hex(UInt64(try device.vendor), 4)), file("device", hex(UInt64(try device.device), 4)),
        file("subsystem_vendor", hex(UInt64(try device.ownVendor), 4)),
        file("subsystem_device", hex(UInt64(try device.ownDevice), 4)), file("class", hex(UInt64(try device.kind), 6)),
        file("revision", hex(UInt64(try device.revision), 2)), file("irq", "\(try device.line)"),
        file("numa_node", "\(try device.node)"),
        .init(
          name: "resource",
          node: .file {
            var text = ProcText()
            for range in reader.ranges(of: device, count, kernel) {
              text.line([try range.start, try range.end, try range.flags].map { hex($0, 16) }.joined(separator: " "))
            }
            return text.bytes
          }),
      ]
      if !found.driver.isEmpty {
        let driver = found.driver
        files.append(.init(name: "driver", node: .link { Array("../../../bus/pci/drivers/".utf8) + driver }))
      }
      return .init(name: name, node: .directory(files))
    }
  }
}
