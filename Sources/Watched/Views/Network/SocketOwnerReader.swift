import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging
import TaskViews

/// Finds the processes that have sockets open: every file table, and of every file what it is of.
///
/// ```
/// task_struct → files_struct → fdtable → file … → private_data, which is the struct socket
/// ```
/// Source: net/socket.c, `sock_from_file`.
struct SocketOwnerReader: KernelReader {
  static let subject = "the file tables"

  private let task: FieldSelection
  private let files: FieldSelection.Field
  private let table: FieldLayout
  private let descriptorTable: FieldSelection
  private let size, array: FieldSelection.Field
  private let file: FieldSelection
  private let operations, content: FieldSelection.Field
  private let socketOperations: VirtualAddress

  /// Descriptors of all processes together: no more are read, so that tables cannot ask for all memory.
  private static let mostDescriptors = 1 << 22

  init(kernel: Kernel) throws {
    let types = kernel.types
    var fields = FieldSelection(try types.structure("task_struct"))
    files = try fields.want("files")
    task = fields
    table = try types.structure("files_struct").field("fdt")
    fields = FieldSelection(try types.structure("fdtable"))
    size = try fields.want("max_fds")
    array = try fields.want("fd")
    descriptorTable = fields
    fields = FieldSelection(try types.structure("file"))
    operations = try fields.want("f_op")
    content = try fields.want("private_data")
    file = fields
    socketOperations = try kernel.symbol("socket_file_ops", for: Self.self)
  }

  /// The owners of each `struct socket`. What cannot be read is left out: processes end while they are looked at.
  func owners(among tasks: [KernelTask], in space: AddressSpace) -> [VirtualAddress: [NetworkSocket.Owner]] {
    let reads = space.read(task, at: tasks.map(\.address))
    let open = reads.indices.compactMap { index -> (task: KernelTask, files: VirtualAddress)? in
      guard let files = try? reads.pointer(index, files), files.rawValue != 0 else { return nil }
      return (tasks[index], files)
    }
    var batch = ReadBatch<VirtualAddress>()
    for (_, files) in open { batch.add(files + table.offset, count: 8) }
    space.read(&batch)
    let tables = space.read(
      descriptorTable, at: open.indices.map { (try? batch.reader($0).pointer(0)) ?? VirtualAddress(0) })
    var arrays = ReadBatch<VirtualAddress>()
    var owners: [KernelTask] = []
    var budget = Self.mostDescriptors
    for index in tables.indices {
      guard let count = try? tables.load(index, size), let array = try? tables.pointer(index, array), count <= budget
      else { continue }
      budget -= Int(count)
      arrays.add(array, count: Int(count) * 8)
      owners.append(open[index].task)
    }
    space.read(&arrays)
    var uses: [VirtualAddress: [NetworkSocket.Owner]] = [:]
    for (index, task) in owners.enumerated() {
      guard let reader = try? arrays.reader(index) else { continue }
      for descriptor in 0..<reader.count / 8 {
        if let file = try? reader.pointer(descriptor * 8), file.rawValue >> 63 == 1 {
          uses[file, default: []].append(
            NetworkSocket.Owner(pid: task.tgid, descriptor: descriptor, comm: task.comm))
        }
      }
    }
    let found = space.read(file, at: Array(uses.keys))
    var result: [VirtualAddress: [NetworkSocket.Owner]] = [:]
    for index in found.indices {
      guard let operations = try? found.pointer(index, operations), operations == socketOperations,
        let socket = try? found.pointer(index, content)
      else { continue }
      result[socket, default: []] += uses[found.addresses[index]] ?? []
    }
    return result.mapValues { $0.sorted { ($0.pid, $0.descriptor) < ($1.pid, $1.descriptor) } }
  }
}
