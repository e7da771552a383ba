import Devices
import Links
import Memory
import Paging
import Remote
import Testing

@Suite(.serialized) struct RemoteMemoryTests {
  @Test(arguments: WatchedHost.Kind.allCases) func answersHeartbeatAndInfo(_ kind: WatchedHost.Kind) throws {
    let host = try WatchedHost()
    let session = try Session(to: host.address(kind))
    try session.heartbeat()
    try session.heartbeat()
    let info = try session.info()
    #expect(info.segments == [MemorySegment(start: PhysicalAddress(0), count: 8 << 20)])
    #expect(info.kernelHint == nil)
    #expect(info.served == 2)
    #expect(session.roundTrips == 3)
    host.device.setKernelHint(PhysicalAddress(0x1000))
    #expect(try session.info().kernelHint == PhysicalAddress(0x1000))
    let beacon = try session.beacon()
    #expect(beacon.state == .running)
  }

  /// Under a session that goes on: the same bytes, laid out in another way.
  @Test(arguments: WatchedHost.Kind.allCases) func deviceTakesOtherSegments(_ kind: WatchedHost.Kind) throws {
    let host = try WatchedHost()
    host.store(0x1234, at: 4 << 20)
    let session = try Session(to: host.address(kind))
    let memory = try RemoteMemory(session: session)
    #expect(try memory.read(PhysicalAddress(4 << 20), count: 2) == [0x34, 0x12])
    let half = UInt64(4 << 20)
    host.device.setSegments([
      MappedSegment(
        bytes: UnsafeRawPointer(host.bytes.base) + Int(half),
        segment: MemorySegment(start: PhysicalAddress(1 << 32), count: half)),
      MappedSegment(
        bytes: UnsafeRawPointer(host.bytes.base), segment: MemorySegment(start: PhysicalAddress(0), count: half)),
    ])
    #expect(throws: MemoryFault.self) { try memory.read(PhysicalAddress(half), count: 2) }
    #expect(try memory.read(PhysicalAddress(1 << 32), count: 2) == [0x34, 0x12])
    #expect(try session.info().segments.map(\.start.rawValue) == [0, 1 << 32])
    host.device.withdrawMonitors()
    try session.heartbeat()
  }

  @Test(arguments: WatchedHost.Kind.allCases) func readsWhatTheMemoryHolds(_ kind: WatchedHost.Kind) throws {
    let host = try WatchedHost()
    for address in stride(from: 0, to: host.bytes.count, by: 8) {
      host.store(UInt64(address) &* 0x9e37_79b9_7f4a_7c15, at: address)
    }
    let memory = try RemoteMemory(session: Session(to: host.address(kind)))
    var batch = ReadBatch<PhysicalAddress>()
    batch.add(PhysicalAddress(3), count: 11)
    batch.add(PhysicalAddress(0x2000), count: 0)
    // Longer than all slots together.
    batch.add(PhysicalAddress(1), count: 7 << 20)
    batch.add(PhysicalAddress((8 << 20) - 4), count: 8)
    batch.add(PhysicalAddress((8 << 20) - 8), count: 8)
    memory.read(&batch)
    for index in [0, 1, 2, 4] {
      let entry = batch.entries[index]
      let expected = [UInt8](
        UnsafeRawBufferPointer(start: host.bytes.base + Int(entry.address.rawValue), count: entry.count))
      #expect(try batch.reader(index).copy() == expected, "entry \(index)")
    }
    #expect(batch.faults == [3: MemoryFault(.physical(PhysicalAddress((8 << 20) - 4)), .absent)])
  }

  /// In pieces that the device is asked for, as of all bytes at once.
  @Test(arguments: WatchedHost.Kind.allCases) func digestsAreThoseOfTheBytes(_ kind: WatchedHost.Kind) throws {
    let host = try WatchedHost()
    for address in stride(from: 0, to: host.bytes.count, by: 8) {
      host.store(UInt64(address) &* 0x9e37_79b9_7f4a_7c15, at: address)
    }
    let session = try Session(to: host.address(kind))
    let memory = try RemoteMemory(session: session)
    let last: UInt64 = (8 << 20) - 1
    let places: [(UInt64, UInt64)] = [(3, 11), (0x2000, 0), (5, (5 << 20) + 3), (last, 1)]
    let ranges = places.map { MemorySegment(start: PhysicalAddress($0.0), count: $0.1) }
    let expected = ranges.map {
      MemoryDigest(UnsafeRawBufferPointer(start: host.bytes.base + Int($0.start.rawValue), count: Int($0.count)))
    }
    let before = session.roundTrips
    #expect(try memory.digests(of: ranges) == expected)
    #expect(session.roundTrips - before == 2)
    #expect(try memory.readDigests(of: ranges) == expected)
    #expect(throws: MemoryFault(.physical(PhysicalAddress(last)), .absent)) {
      try memory.digests(of: [MemorySegment(start: PhysicalAddress(last), count: 2)])
    }
  }

  /// Page by page, those that are not there apart.
  @Test(arguments: WatchedHost.Kind.allCases) func pagesHaveDigestsOfTheirOwn(_ kind: WatchedHost.Kind) throws {
    let host = try WatchedHost(count: (3 << 20) + 5)
    for address in stride(from: 0, to: 3 << 20, by: 8) {
      host.store(UInt64(address / 8192) &* 0x9e37_79b9_7f4a_7c15, at: address)
    }
    let memory = try RemoteMemory(session: Session(to: host.address(kind)))
    for (start, count) in [(0, 3 << 20), (0x1000, 0), (0x3000, 4097), (0x10_0000, (2 << 20) + 5)] {
      let range = MemorySegment(start: PhysicalAddress(UInt64(start)), count: UInt64(count))
      let seed = MemoryDigest.Seed.random()
      let expected = stride(from: start, to: start + count, by: 4096).map { address in
        MemoryDigest(
          UnsafeRawBufferPointer(start: host.bytes.base + address, count: min(4096, start + count - address)), seed)
      }
      #expect(try memory.digests(ofPagesIn: range, seed) == expected)
      #expect(try memory.readDigests(ofPagesIn: range, seed) == expected)
      #expect(Set(expected).count >= expected.count / 2)
    }
    // Beyond the end.
    let range = MemorySegment(start: PhysicalAddress(0x2f_e000), count: 0x4000)
    let seed = MemoryDigest.Seed(1, 2)
    let digests = try memory.digests(ofPagesIn: range, seed)
    #expect(digests.count == 4 && digests.map { $0 == nil } == [false, false, true, true])
    #expect(try memory.readDigests(ofPagesIn: range, seed) == digests)
  }

  @Test(arguments: WatchedHost.Kind.allCases) func walksPageTablesAsTheWalkerDoes(_ kind: WatchedHost.Kind) throws {
    let host = try WatchedHost()
    for address in stride(from: 0, to: host.bytes.count, by: 8) {
      host.store(UInt64.random(in: 0 ... .max), at: address)
    }
    // Root at 0x1000 → 0x2000 → 0x3000 → 0x4000; page 0 at 0x10000, page 1 absent, page 2 outside the memory,
    // page 3 at 0x11000; 2 MiB page at 2 MiB; the root's second entry is itself; its third lies outside.
    for table in [0x1000, 0x2000, 0x3000, 0x4000] {
      for index in 0..<512 { host.store(0, at: table + index * 8) }
    }
    host.store(0x2003, at: 0x1000)
    host.store(0x1003, at: 0x1008)
    host.store(0x7000_0003, at: 0x1010)
    host.store(0x83, at: 0x1018)  // A large page where none may be.
    host.store(0x3003, at: 0x2000)
    host.store(0x4003, at: 0x3000)
    host.store(0x20_0083 | 1 << 63, at: 0x3008)
    host.store(0x1_0003, at: 0x4000)
    host.store(0x7000_0003, at: 0x4010)
    host.store(0x1_1003, at: 0x4018)
    let remote = try RemoteMemory(session: Session(to: host.address(kind)))
    let local = SyntheticMemory([UInt8](UnsafeRawBufferPointer(start: host.bytes.base, count: host.bytes.count)))
    for format in [PageTableFormat.x86_64FourLevel, .x86_64FiveLevel] {
      let root = PhysicalAddress(0x1000)
      var batch = ReadBatch<MemoryLocation>()
      for address in [
        0, 0xff8, 0x1000, 0x2000, 0x3000, 0x3ff9, 0x20_0000, 0x3f_fff0, 1 << 39, 2 << 39, 3 << 39, 1 << 47, 1 << 63,
        1 << 48, 1 << 56, 0xffff_8000_0000_0000, UInt64.max - 7,
      ] {
        batch.add(.virtual(VirtualAddress(UInt64(address)), root: root), count: 8)
        batch.add(.virtual(VirtualAddress(UInt64(address)), root: PhysicalAddress(.max & ~0xfff)), count: 8)
        batch.add(.physical(PhysicalAddress(UInt64(address))), count: 16)
      }
      batch.add(.virtual(VirtualAddress(0x20_0000), root: root), count: 0x1f_0000)
      batch.add(.virtual(VirtualAddress(0), root: root), count: 0x4000)
      var expected = batch
      PageWalker(memory: remote, format: format).read(&batch)
      PageWalker(memory: local, format: format).read(&expected)
      let differing = batch.entries.indices.filter { batch.faults[$0] != expected.faults[$0] }
      #expect(differing.isEmpty)
      #expect(batch.bytes.elementsEqual(expected.bytes), "the bytes differ")
      #expect(!expected.faults.isEmpty && expected.faults.count < batch.entries.count)
    }
  }
}
