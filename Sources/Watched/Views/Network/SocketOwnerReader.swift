import Binding
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

  private struct Task: KernelShape {
    static let type = "task_struct"
    let files = Field<VirtualAddress>("files")
  }

  private struct Files: KernelShape {
    static let type = "files_struct"
    let table = Field<VirtualAddress>("fdt")
  }

  private struct Table: KernelShape {
    static let type = "fdtable"
    let size = Field<UInt64>("max_fds")
    let array = Field<VirtualAddress>("fd")
  }

  private struct File: KernelShape {
    static let type = "file"
    let operations = Field<VirtualAddress>("f_op")
    let content = Field<VirtualAddress>("private_data")
  }

  private let task: Bound<Task>
  private let files: Bound<Files>
  private let table: Bound<Table>
  private let file: Bound<File>
  private let socketOperations: VirtualAddress

  /// Descriptors of all processes together: no more are read, so that tables cannot ask for all memory.
  private static let mostDescriptors = 1 << 22

  init(kernel: Kernel) throws {
    let types = kernel.types
    task = try Bound(types)
    files = try Bound(types)
    table = try Bound(types)
    file = try Bound(types)
    socketOperations = try kernel.symbol("socket_file_ops", for: Self.self)
  }

  /// The owners of each `struct socket`. What cannot be read is left out: processes end while they are looked at.
  func owners(among tasks: [KernelTask], in space: AddressSpace) -> [VirtualAddress: [NetworkSocket.Owner]] {
    let open = zip(tasks, space.read(task, at: tasks.map(\.address)).pointers(\.files)).filter { $1.rawValue != 0 }
    let tables = space.read(table, at: space.read(files, at: open.map { $1 }).pointers(\.table))
    var arrays = ReadBatch<VirtualAddress>()
    var owners: [KernelTask] = []
    var budget = Self.mostDescriptors
    for table in tables {
      guard let count = try? table.size, let array = try? table.array, count <= budget else { continue }
      budget -= Int(count)
      arrays.add(array, count: Int(count) * 8)
      owners.append(open[table.index].0)
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
    for file in found {
      guard let operations = try? file.operations, operations == socketOperations, let socket = try? file.content else {
        continue
      }
      result[socket, default: []] += uses[file.address] ?? []
    }
    return result.mapValues { $0.sorted { ($0.pid, $0.descriptor) < ($1.pid, $1.descriptor) } }
  }
}
