import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// Reads the tables by which BPF programs and maps are numbered.
///
/// Source: kernel/bpf/syscall.c, `bpf_prog_get_info_by_fd`.
struct BPFReader: KernelReader {
  static let subject = "the BPF programs"
  typealias Field = FieldSelection.Field

  private let heads: [VirtualAddress]
  private let xarray: XArray
  private let program, auxiliary, map: FieldSelection
  private let type, length, tag, more, function: Field
  private let id, name, loadTime: Field
  private let mapID, mapType, mapName, keySize, valueSize, entries: Field

  init(kernel: Kernel) throws {
    let types = kernel.types
    let head = try types.structure("idr").field("idr_rt.xa_head").offset
    heads = [
      try kernel.symbol("prog_idr", for: Self.self) + head, try kernel.symbol("map_idr", for: Self.self) + head,
    ]
    xarray = try XArray(types: types)
    var fields = FieldSelection(try types.structure("bpf_prog"))
    type = try fields.want("type")
    length = try fields.want("len")
    tag = try fields.want("tag")
    more = try fields.want("aux")
    function = try fields.want("bpf_func")
    program = fields
    fields = FieldSelection(try types.structure("bpf_prog_aux"))
    id = try fields.want("id")
    name = try fields.want("name")
    loadTime = try fields.want("load_time")
    auxiliary = fields
    fields = FieldSelection(try types.structure("bpf_map"))
    mapID = try fields.want("id")
    mapType = try fields.want("map_type")
    mapName = try fields.want("name")
    keySize = try fields.want("key_size")
    valueSize = try fields.want("value_size")
    entries = try fields.want("max_entries")
    map = fields
  }

  func read(in space: AddressSpace) throws -> BPFTable {
    var table = BPFTable()
    var batch = ReadBatch<VirtualAddress>()
    for head in heads { batch.add(head, count: 8) }
    space.read(&batch)
    let limit = 1 << 18
    let programs = xarray.values(head: try batch.reader(0).pointer(0), in: space, limit: limit)
    let maps = xarray.values(head: try batch.reader(1).pointer(0), in: space, limit: limit)
    table.faults = programs.faults + maps.faults
    let reads = space.read(program, at: programs.values)
    let extra = space.read(auxiliary, at: reads.indices.map { (try? reads.pointer($0, more)) ?? VirtualAddress(0) })
    for index in reads.indices {
      do throws(MemoryFault) {
        let tag = try reads.load(index, tag)
        table.programs.append(
          BPFProgram(
            address: programs.values[index], id: UInt32(truncatingIfNeeded: try extra.load(index, id)),
            type: UInt32(truncatingIfNeeded: try reads.load(index, type)), name: try extra.string(index, name),
            tag: (0..<8).map { UInt8(truncatingIfNeeded: tag >> UInt64($0 * 8)) },
            instructions: UInt32(truncatingIfNeeded: try reads.load(index, length)),
            loadTime: try extra.load(index, loadTime),
            function: try reads.pointer(index, function)))
      } catch {
        table.faults.append(error)
      }
    }
    let found = space.read(map, at: maps.values)
    for index in found.indices {
      do throws(MemoryFault) {
        table.maps.append(
          BPFMap(
            address: maps.values[index], id: UInt32(truncatingIfNeeded: try found.load(index, mapID)),
            type: UInt32(truncatingIfNeeded: try found.load(index, mapType)), name: try found.string(index, mapName),
            keySize: UInt32(truncatingIfNeeded: try found.load(index, keySize)),
            valueSize: UInt32(truncatingIfNeeded: try found.load(index, valueSize)),
            mostEntries: UInt32(truncatingIfNeeded: try found.load(index, entries))))
      } catch {
        table.faults.append(error)
      }
    }
    return table
  }
}
