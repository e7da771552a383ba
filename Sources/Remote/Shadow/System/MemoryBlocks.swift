import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// The directory /sys/devices/system/memory: the memory in the blocks by which it can be added and taken away.
///
/// Source: drivers/base/memory.c.
struct MemoryBlocks: KernelReader {
  static let subject = "the blocks of memory"

  private struct Block: KernelShape {
    static let type = "memory_block"
    let first = Field<UInt64>("start_section_nr"), state = Field<UInt64>("state"), node = Field<Int32>("nid")
    let isOffline = Field<Bool>("dev.offline"), zone = Field<VirtualAddress?>(optional: "zone")
  }

  private struct Zone: KernelShape {
    static let type = "zone"
    let name = Field<VirtualAddress>("name")
  }

  private let block: Bound<Block>, array: XArray
  /// Names of the states, which were bits until the kernel had an enumeration of them.
  private let states: [UInt64: String]
  /// The places of what leads to them.
  private let blocks, sections: VirtualAddress

  /// Bits of the size of a section (SECTION_SIZE_BITS), and how many blocks there are at most.
  private static let (sectionBits, most) = (27 as UInt64, 1 << 20)

  init(kernel: Kernel) throws {
    block = try kernel.bound()
    array = try XArray(types: kernel.types)
    var states: [UInt64: String] = [:]
    for (constant, plain, name) in [
      ("MEM_ONLINE", 1, "online"), ("MEM_GOING_OFFLINE", 2, "going-offline"), ("MEM_OFFLINE", 4, "offline"),
    ] as [(String, Int64, String)] {
      states[UInt64(bitPattern: kernel.types.enumerator(constant) ?? plain)] = name
    }
    self.states = states
    blocks = try kernel.symbol("memory_blocks", for: Self.self) + kernel.offset(of: "xa_head", in: "xarray")
    sections = try kernel.symbol("sections_per_block", for: Self.self)
  }

  /// Nil where the kernel was built without.
  static func directory(_ kernel: Kernel) -> ShadowNode? {
    guard kernel.symbols.address(of: "memory_blocks") != nil else { return nil }
    return .listing { try kernel.reader(Self.self).entries(kernel) }
  }

  private func entries(_ kernel: Kernel) throws -> [ShadowNode.Entry] {
    let sections = UInt64(max(1, try kernel.addressSpace.load(sections, as: Int32.self)))
    func file(_ name: String, _ make: @escaping @Sendable () throws -> String) -> ShadowNode.Entry {
      .init(name: name, node: .file { Array((try make() + "\n").utf8) })
    }
    var entries = [file("block_size_bytes") { String(sections << Self.sectionBits, radix: 16) }]
    if kernel.symbols.address(of: "mhp_default_online_type") != nil {
      entries.append(
        file("auto_online_blocks") {
          // MMOP_*, from include/linux/memory_hotplug.h.
          let kinds = ["offline", "online", "online_kernel", "online_movable"]
          guard let kind = kinds[safe: Int(try kernel.number("mhp_default_online_type"))] else {
            throw ShadowError.unreadable("what becomes of memory that is added")
          }
          return kind
        })
    }
    let found = array.values(
      head: try kernel.addressSpace.pointer(at: blocks), in: kernel.addressSpace, limit: Self.most)
    if let fault = found.faults.first { throw fault }
    let numbers = zip(found.indices, found.values).sorted { $0.0 < $1.0 }
    for (number, place) in numbers {
      @Sendable func own() -> Reading<Block> { kernel.addressSpace.read(block, at: [place])[0] }
      var files = [
        file("phys_index") { ProcText.hex(try own().first / sections, 8) },
        file("state") {
          guard let state = states[try own().state] else {
            throw ShadowError.unreadable("the state of a block of memory")
          }
          return state
        },
        file("online") { try own().isOffline ? "0" : "1" },
        // Where the firmware could say more, PCs do not.
        file("phys_device") { "0" },
        // Whether it can be tried.
        file("removable") { kernel.symbols.address(of: "offline_pages") == nil ? "0" : "1" },
      ]
      if block.shape.zone.isPresent {
        files.append(
          file("valid_zones") {
            guard states[try own().state] == "online" else {
              throw ShadowError.unreadable("where memory would go that is not in use")
            }
            guard let zone = try own().zone else { return "none" }
            let name = try kernel.read(Zone.self, at: [zone])[0].name
            return String(decoding: try kernel.addressSpace.strings(at: [name])[0].get(), as: UTF8.self)
          })
      }
      let node = try own().node
      if node >= 0 {
        files.append(.init(name: "node\(node)", node: .link(isHere: true) { Array("../../node/node\(node)".utf8) }))
      }
      entries.append(.init(name: "memory\(number)", node: .directory(files)))
    }
    return entries
  }
}
