import CRuntime
import Memory
import Paging
import Samples

extension FuzzTarget {
  /// What monitors load, store and copy, over page tables that the input sets: the same bytes as the views read, and
  /// never a byte of anything else.
  static let runtime = FuzzTarget(
    name: "runtime",
    seeds: {
      func entry(_ slot: UInt16, _ value: UInt64) -> [UInt8] { bytes(slot) + bytes(value) }
      func header(_ flags: UInt8, _ addresses: [UInt64]) -> [UInt8] {
        [flags] + bytes(UInt64(0x1000)) + addresses.flatMap { bytes($0) }
          + [UInt8](repeating: 0, count: 8 * (4 - addresses.count))
      }
      // The upper half's first address, through tables from page 1 on down to a page; one that is large.
      var chain: [UInt8] = []
      for page: UInt64 in 1...5 { chain += entry(UInt16(page * 512 + (page == 1 ? 256 : 0)), (page + 1) << 12 | 1) }
      let large = entry(512 + 256, 0x2001) + entry(1024, 0x81)
      let four: [UInt64] = [0xffff_8000_0000_0000, 0xffff_8000_0000_0ff8, 0x1000, .max]
      return [
        header(0, four) + chain, header(1, [0xff00_0000_0000_0000]) + chain, header(0, four) + large,
        header(2, four) + chain, header(6, [0xffff_9000_0000_2000]) + chain,
      ]
    },
    run: { bytes in
      var input = FuzzInput(bytes)
      // 1 for five levels, 2 to walk for each load, 4 for a direct map.
      let how = input.next(UInt8.self)
      let root = input.next(UInt64.self)
      let addresses = (0..<4).map { _ in input.next(UInt64.self) }
      var memory = [UInt8](repeating: 0, count: 16 * 4096)
      while !input.isEmpty {
        let slot = Int(input.next(UInt16.self)) % (memory.count / 8) * 8
        withUnsafeBytes(of: input.next(UInt64.self)) { memory.replaceSubrange(slot..<slot + 8, with: $0) }
      }
      let directMap: UInt64 = 0xffff_9000_0000_0000
      let space = AddressSpace(
        memory: SyntheticMemory(memory), format: how & 1 == 0 ? .x86_64FourLevel : .x86_64FiveLevel,
        root: PhysicalAddress(root),
        // Who walks for each load needs no direct map.
        linearRanges: how & 6 != 4
          ? []
          : [.init(start: VirtualAddress(directMap), count: UInt64(memory.count), physical: PhysicalAddress(0))])
      let lane = RuntimeLane(memory, how: how, root: root, directMap: directMap)
      for start in addresses {
        for distance: UInt64 in [0, 1, 8, 4088, 4096, 1 << 21, 1 << 39] {
          let address = start &+ distance
          for size in [1, 2, 4, 8] { lane.load(address, size: size, from: space) }
          lane.copy(address, count: 24, from: space)
          lane.copy(address, count: 5000, from: space)
          lane.store(address)
        }
      }
    })
}

/// One lane over a copy of the memory, between other bytes that nobody may touch.
private final class RuntimeLane {
  private let memory: UnsafeMutableRawBufferPointer
  private let room: UnsafeMutableRawBufferPointer
  private let segment: UnsafeMutablePointer<grass_mapped_segment>
  private let machine: UnsafeMutablePointer<grass_machine>
  private let output: UnsafeMutablePointer<grass_output>
  private let state: UnsafeMutablePointer<grass_lane_state>
  private let arguments: UnsafeMutablePointer<UInt64>
  private let order: UnsafeMutablePointer<grass_order>

  init(_ bytes: [UInt8], how: UInt8, root: UInt64, directMap: UInt64) {
    memory = .allocate(byteCount: bytes.count, alignment: 4096)
    memory.copyBytes(from: bytes)
    room = .allocate(byteCount: 8192, alignment: 8)
    room.initializeMemory(as: UInt8.self, repeating: 0)
    segment = .allocate(capacity: 1)
    segment.initialize(
      to: grass_mapped_segment(
        segment: grass_segment(start: 0, count: UInt64(bytes.count)),
        bytes: UnsafePointer(memory.bindMemory(to: UInt8.self).baseAddress), lost: nil))
    machine = .allocate(capacity: 1)
    machine.initialize(to: grass_machine())
    machine.pointee.segments = UnsafePointer(segment)
    machine.pointee.segment_count = 1
    machine.pointee.root = root
    machine.pointee.format = UInt64((how & 1 == 0 ? GRASS_PAGES_X86_64_4 : GRASS_PAGES_X86_64_5).rawValue)
    if how & 4 != 0 { (machine.pointee.direct_start, machine.pointee.direct_count) = (directMap, UInt64(bytes.count)) }
    output = .allocate(capacity: 1)
    output.initialize(
      to: grass_output(bytes: room.bindMemory(to: UInt8.self).baseAddress, capacity: UInt64(room.count), used: 0))
    state = .allocate(capacity: 1)
    state.initialize(to: grass_lane_state())
    arguments = .allocate(capacity: 4)
    arguments.initialize(repeating: 0, count: 4)
    order = .allocate(capacity: 1)
    order.initialize(
      to: grass_order(
        machine: machine, near: grass_widest_window(machine), output: output, next: nil,
        arguments: arguments, stage: 0, lanes: 1, walks: how & 2 != 0, state: nil, state_words: 0))
    restart()
  }

  deinit {
    memory.deallocate()
    room.deallocate()
    segment.deallocate()
    machine.deallocate()
    output.deallocate()
    state.deallocate()
    arguments.deallocate()
    order.deallocate()
  }

  /// Begins anew after a fault; else what was remembered stays.
  private func restart() { grass_lane_start(state, order, nil, 0, 1000) }

  private static func isKernel(_ address: UInt64) -> Bool { address >> 63 == 1 }

  /// What the views read there.
  private func expected(_ address: UInt64, _ count: Int, _ space: AddressSpace) -> [UInt8]? {
    // The views' addresses may be anyone's, a monitor's only the kernel's.
    guard Self.isKernel(address), Self.isKernel(address &+ UInt64(count - 1)) else { return nil }
    return try? space.read(VirtualAddress(address), count: count)
  }

  func load(_ address: UInt64, size: Int, from space: AddressSpace) {
    guard let place = grass_load_at(state, address, UInt64(size), UInt64(size)) else { fatalError("no place at all") }
    let bytes = Array(UnsafeRawBufferPointer(start: place, count: size))
    let isAligned = address & UInt64(size - 1) == 0
    let wanted = isAligned ? expected(address, size, space) : nil
    require(
      (state.pointee.fault == 0) == (wanted != nil),
      "a load of \(size) bytes at \(address) ends with \(state.pointee.fault), the views read \(String(describing: wanted))"
    )
    require(bytes == wanted ?? [UInt8](repeating: 0, count: size), "a load at \(address) gives \(bytes)")
    if state.pointee.fault != 0 { restart() }
  }

  func copy(_ address: UInt64, count: Int, from space: AddressSpace) {
    guard let own = room.baseAddress else { return }
    grass_copy(
      state, UInt64(UInt(bitPattern: own)), own, UInt64(room.count), address, nil, 0, UInt64(count))
    let wanted = expected(address, count, space)
    require((state.pointee.fault == 0) == (wanted != nil), "a copy of \(count) bytes at \(address)")
    if let wanted { require(room.prefix(count).elementsEqual(wanted), "a copy at \(address) gives other bytes") }
    if state.pointee.fault != 0 { restart() }
  }

  /// Nothing but the lane's sink can be stored to.
  func store(_ address: UInt64) {
    guard let place = grass_store_at(state, address, 8, 8) else { fatalError("no place at all") }
    require(state.pointee.fault != 0, "a store to \(address)")
    let sink = UnsafeMutableRawPointer(state) + (MemoryLayout<grass_lane_state>.offset(of: \.sink) ?? 0)
    require(place == sink, "a store to \(address) goes elsewhere")
    restart()
  }
}
