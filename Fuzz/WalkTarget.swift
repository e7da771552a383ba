import Memory
import Paging
import Samples

extension FuzzTarget {
  /// Page tables in 16 pages of memory, whose entries the input sets, and reads through them.
  static let walk = FuzzTarget(
    name: "walk",
    seeds: {
      func entry(_ slot: UInt16, _ value: UInt64) -> [UInt8] { bytes(slot) + bytes(value) }
      // Four or five levels, linear ranges or not, root, address, length.
      func header(_ levels: UInt8) -> [UInt8] {
        let start: [UInt8] = [levels, 0]
        return start + bytes(UInt64(0x1000)) + bytes(UInt64(0)) + bytes(UInt16(5000))
      }
      // Root in page 1, whose entry 0 names page 2, and so on down to a page; a table that names itself; a large page.
      var chain: [UInt8] = []
      for page: UInt64 in 1...5 { chain += entry(UInt16(page * 512), (page + 1) << 12 | 1) }
      let loop = entry(512, 0x1001)
      let large = entry(512, 0x2001) + entry(1024, 0x81)
      return [header(0) + chain, header(1) + chain, header(0) + loop, header(0) + large]
    },
    run: { bytes in
      var input = FuzzInput(bytes)
      let format: PageTableFormat = input.next(UInt8.self) & 1 == 0 ? .x86_64FourLevel : .x86_64FiveLevel
      let isLinear = input.next(UInt8.self) & 1 == 1
      let root = PhysicalAddress(input.next(UInt64.self))
      let address = VirtualAddress(input.next(UInt64.self))
      let count = Int(input.next(UInt16.self))
      var memory = [UInt8](repeating: 0, count: 16 * 4096)
      while !input.isEmpty {
        let slot = Int(input.next(UInt16.self)) % (memory.count / 8) * 8
        withUnsafeBytes(of: input.next(UInt64.self)) { memory.replaceSubrange(slot..<slot + 8, with: $0) }
      }
      let space = AddressSpace(
        memory: SyntheticMemory(memory), format: format, root: root,
        linearRanges: isLinear
          ? [.init(start: address + 4096, count: 8192, physical: PhysicalAddress(root.rawValue &* 3))] : [])
      var batch = ReadBatch<VirtualAddress>()
      for distance in [0, 4096, -1, 1 << 21, 1 << 30, 1 << 39] { batch.add(address + distance, count: count) }
      space.read(&batch)
      for (index, entry) in batch.entries.enumerated() where entry.count > 0 && batch.succeeded(index) {
        guard let whole = try? batch.reader(index).copy() else { fatalError("succeeded, and has no bytes") }
        // Byte by byte must be the same as in one go.
        for offset in [0, count / 2, count - 1] {
          let single = try? space.read(entry.address + offset, count: 1)
          require(single == [whole[offset]], "byte \(offset) of \(entry.address) differs")
        }
      }
    })
}
