import CRegion
import CRuntime
import Memory
import Paging
import Testing

/// The programs of a device walk page tables as ``PageWalker`` does, whatever the tables hold.
struct WalkAgreementTests {
  private static let start: UInt64 = 0x10_0000

  /// The memory of a bench, as a source of its own.
  private struct BenchMemory: PhysicalMemory, @unchecked Sendable {
    let bytes: UnsafeMutableRawPointer
    let segments = [MemorySegment(start: PhysicalAddress(start), count: 65536)]

    func read(_ batch: inout ReadBatch<PhysicalAddress>) {
      batch.fill { (address, target) throws(MemoryFault) in
        guard segments[0].contains(address, count: target.count) else {
          throw MemoryFault(.physical(address), .absent)
        }
        target.copyMemory(
          from: UnsafeRawBufferPointer(
            start: bytes + Int(address.distance(from: segments[0].start)), count: target.count))
      }
    }
  }

  private struct Numbers {
    var state: UInt64

    mutating func next() -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return state ^ state >> 29
    }
  }

  private static func code(_ reason: MemoryFault.Reason) -> grass_fault {
    switch reason {
    case .absent: GRASS_FAULT_ABSENT
    case .notCanonical: GRASS_FAULT_NOT_CANONICAL
    case .notPresent: GRASS_FAULT_NOT_PRESENT
    default: GRASS_FAULT_BAD_ENTRY
    }
  }

  @Test(arguments: [PageTableFormat.x86_64FourLevel, .x86_64FiveLevel], 0..<8 as Range<UInt64>)
  func ofHostileTables(format: PageTableFormat, seed: UInt64) throws {
    let bench = try Bench()
    var numbers = Numbers(state: seed << 32 | UInt64(format.levels))
    for place in stride(from: 0, to: 65536, by: 8) {
      var entry = numbers.next()
      if numbers.next() >> 40 % 8 > 0 {
        entry = entry & ~0x000f_ffff_ffff_f080 | (Self.start + (numbers.next() >> 40 % 16) << 12)
      }
      if numbers.next() >> 40 % 8 > 0 { entry |= 1 }
      bench.memory.storeBytes(of: entry, toByteOffset: place, as: UInt64.self)
    }
    let walker = PageWalker(memory: BenchMemory(bytes: bench.memory), format: format)
    var found: Set<UInt32> = []
    for _ in 0..<500 {
      let unused = UInt64(64 - format.virtualBits)
      var address = numbers.next() & ~7
      // A monitor's addresses are the kernel's.
      if numbers.next() >> 40 % 8 > 0 { address |= ~(UInt64.max >> (unused + 1)) }
      address |= 1 << 63
      let root = numbers.next() >> 40 % 4 == 0 ? numbers.next() : Self.start + numbers.next() >> 40 % 65536
      var batch = ReadBatch<MemoryLocation>()
      batch.add(.virtual(VirtualAddress(address), root: PhysicalAddress(root)), count: 8)
      walker.read(&batch)
      let wanted = Self.code(batch.faults[0]?.reason ?? .absent)
      let fault = batch.faults[0] == nil ? GRASS_FAULT_NONE : wanted
      let bytes = batch.faults[0] == nil ? try batch.reader(0).copy() : [UInt8](repeating: 0, count: 8)
      found.insert(fault.rawValue)
      #expect(gather(bench, address, root, format) == .init(fault: fault.rawValue, bytes: bytes), "gather")
      #expect(load(bench, address, root, format) == .init(fault: fault.rawValue, bytes: bytes), "load")
    }
    #expect(found == [0, 1, 2, 3, 4])
  }

  private struct Outcome: Hashable {
    var fault: UInt32
    var bytes: [UInt8]
  }

  /// What the program that serves slots answers.
  private func gather(_ bench: Bench, _ address: UInt64, _ root: UInt64, _ format: PageTableFormat) -> Outcome? {
    let range = [address, root].flatMap { word in withUnsafeBytes(of: word) { [UInt8]($0) } }
    guard let answer = bench.ask(words(3, 1, format.number, 0) + range + words(8, 1)), answer.count == 48 else {
      return nil
    }
    return Outcome(
      fault: answer.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 16, as: UInt32.self) },
      bytes: Array(answer[40...]))
  }

  /// What a monitor's lane loads that walks for each.
  private func load(_ bench: Bench, _ address: UInt64, _ root: UInt64, _ format: PageTableFormat) -> Outcome {
    var machine = grass_machine()
    machine.segments = UnsafePointer(bench.segment)
    machine.segment_count = 1
    machine.root = root
    machine.format = UInt64(format.number)
    var output = grass_output()
    return withUnsafePointer(to: &machine) { machine in
      withUnsafeMutablePointer(to: &output) { output in
        var order = grass_order()
        (order.machine, order.output, order.lanes, order.walks) = (machine, output, 1, true)
        return withUnsafePointer(to: &order) { order in
          var lane = grass_lane_state()
          return withUnsafeMutablePointer(to: &lane) { lane in
            grass_lane_start(lane, order, nil, 0, 1000)
            guard let place = grass_load_at(lane, address, 8, 8) else { return Outcome(fault: .max, bytes: []) }
            return Outcome(fault: lane.pointee.fault, bytes: Array(UnsafeRawBufferPointer(start: place, count: 8)))
          }
        }
      }
    }
  }
}
