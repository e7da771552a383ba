import Memory
import Samples
import Testing

@testable import KernelInfo
@testable import LinuxKernel

/// Tables of symbols found by their form alone.
struct TableSearchTests {
  private static let base: UInt64 = 0xffff_ffff_9e20_0000
  private static let count = 3000

  /// The tables as kernels from 6.4 on lay them out, or as 6.1 does, with the order of names between.
  private func memory(isOld: Bool) -> (memory: SyntheticMemory, digits: PhysicalAddress, names: UInt64) {
    let symbols = (0..<Self.count).map {
      (type: Character("t"), name: "function_\($0)", address: Self.base + UInt64($0))
    }
    let writer = KallsymsWriter(symbols: symbols, relativeBase: Self.base)
    var markers = Bytes()
    var (place, names) = (0, writer.names)
    for index in 0..<Self.count {
      if index % 256 == 0 { markers.append(UInt32(place)) }
      place += 1 + Int(names[place])
    }
    var image = [UInt8](repeating: 0, count: 16)
    func add(_ part: [UInt8]) {
      image += part + [UInt8](repeating: 0, count: (8 - part.count % 8) % 8)
    }
    if isOld {
      add(writer.offsets)
      add(bytes(Self.base))
    }
    add(bytes(UInt32(Self.count)))
    let start = image.count
    add(names)
    add(markers.all)
    if isOld { add([UInt8](repeating: 0xa5, count: 3 * Self.count)) }
    let tokens = image.count
    add(writer.tokenTable)
    add(writer.tokenIndex)
    if !isOld {
      add(writer.offsets)
      add(bytes(Self.base))
    }
    // Behind the digits more is read than the tables have.
    image += [UInt8](repeating: 0, count: 64 << 10)
    names = writer.tokenIndex
    let digit = tokens + Int(names[0x60]) + Int(names[0x61]) << 8
    return (SyntheticMemory(image), PhysicalAddress(UInt64(digit)), UInt64(start))
  }

  @Test(arguments: [false, true]) func findsTables(isOld: Bool) throws {
    let (memory, digits, names) = memory(isOld: isOld)
    let search = TableSearch(SearchedMemory(memory))
    #expect(memory.segments.contains { TableSearch.places(in: $0, of: memory).contains(digits) })
    let tables = try search.tables(at: digits)
    #expect(tables.count == Self.count && tables.names == PhysicalAddress(names))
    #expect(tables.relativeBase == Self.base)
    let offsets = try memory.read(tables.offsets, count: 8)
    // The first symbol lies at the base: -1.
    #expect(offsets == [0xff, 0xff, 0xff, 0xff, 0xfe, 0xff, 0xff, 0xff])
  }

  /// One byte anywhere in what is checked is wrong: no table, and no trap.
  @Test(arguments: [false, true]) func refusesDamage(isOld: Bool) throws {
    let (memory, digits, names) = memory(isOld: isOld)
    let end = digits.rawValue + 700
    for place in [names - 8, names, names + 300] + stride(from: digits.rawValue + 20, to: end, by: 37) {
      var damaged = memory
      damaged.write([0xff], at: PhysicalAddress(place))
      let search = TableSearch(SearchedMemory(damaged))
      _ = try? search.tables(at: digits)
    }
    for place: UInt64 in [0, 1, digits.rawValue - 2, digits.rawValue + 4, end + 60_000, .max] {
      let search = TableSearch(SearchedMemory(memory))
      #expect(throws: KernelInfoError.self) { try search.tables(at: PhysicalAddress(place)) }
    }
    var damaged = memory
    damaged.write([0xff], at: PhysicalAddress(names - 8))
    let search = TableSearch(SearchedMemory(damaged))
    #expect(throws: KernelInfoError.self) { try search.tables(at: digits) }
  }

  /// Digits everywhere: few of them are tried.
  @Test func memoryFullOfDigits() {
    let digits = Array("0\01\02\03\04\05\06\07\08\09\0".utf8)
    let memory = SyntheticMemory((0..<50_000).map { digits[$0 % digits.count] })
    let report = KernelSearchReport.ofRefusal(in: memory)
    #expect((1...64).contains(report?.layouts[0].tried ?? 0))
  }
}
