import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// Reads the tables by which BPF programs and maps are numbered.
///
/// Source: kernel/bpf/syscall.c, `bpf_prog_get_info_by_fd`.
struct BPFReader: SettledReader {
  static let subject = "the BPF programs"

  private struct Numbers: KernelShape {
    static let type = "idr"
    let head = Field<VirtualAddress>("idr_rt.xa_head")
  }

  private struct Program: KernelShape {
    static let type = "bpf_prog"
    let type = Field<UInt32>("type")
    let length = Field<UInt32>("len")
    let tag = Field<RawBytes>("tag")
    let more = Field<VirtualAddress>("aux")
    let function = Field<VirtualAddress>("bpf_func")
  }

  private struct Auxiliary: KernelShape {
    static let type = "bpf_prog_aux"
    let id = Field<UInt32>("id")
    let name = Field<[UInt8]>("name")
    let loadTime = Field<UInt64>("load_time")
  }

  private struct Map: KernelShape {
    static let type = "bpf_map"
    let id = Field<UInt32>("id")
    let type = Field<UInt32>("map_type")
    let name = Field<[UInt8]>("name")
    let keySize = Field<UInt32>("key_size")
    let valueSize = Field<UInt32>("value_size")
    let entries = Field<UInt32>("max_entries")
  }

  private let tables: [VirtualAddress]
  private let xarray: XArray
  private let numbers: Bound<Numbers>
  private let program: Bound<Program>
  private let auxiliary: Bound<Auxiliary>
  private let map: Bound<Map>

  /// More than any host has.
  private static let most = 1 << 18

  init(kernel: Kernel) throws {
    tables = [try kernel.symbol("prog_idr", for: Self.self), try kernel.symbol("map_idr", for: Self.self)]
    xarray = try XArray(types: kernel.types)
    numbers = try Bound(kernel.types)
    program = try Bound(kernel.types)
    auxiliary = try Bound(kernel.types)
    map = try Bound(kernel.types)
  }

  func read(_ kernel: Kernel) throws -> BPFTable {
    let space = kernel.addressSpace
    let heads = space.read(numbers, at: tables)
    let programs = xarray.values(head: try heads[0].head, in: space, limit: Self.most)
    let maps = xarray.values(head: try heads[1].head, in: space, limit: Self.most)
    var table = BPFTable(faults: programs.faults + maps.faults)
    let found = space.read(program, at: programs.values)
    let auxiliaries = space.read(auxiliary, at: found.pointers(\.more))
    table.programs = found.compactMap(&table.faults) { (program) throws(MemoryFault) in
      let more = auxiliaries[program.index]
      return BPFProgram(
        address: program.address, id: try more.id, type: try program.type, name: try more.name,
        tag: try program.tag.bytes, instructions: try program.length, loadTime: try more.loadTime,
        function: try program.function)
    }
    table.maps = space.read(map, at: maps.values).compactMap(&table.faults) { (map) throws(MemoryFault) in
      BPFMap(
        address: map.address, id: try map.id, type: try map.type, name: try map.name, keySize: try map.keySize,
        valueSize: try map.valueSize, mostEntries: try map.entries)
    }
    return table
  }
}
