import Binding
public import LinuxKernel
package import Memory
package import Paging
package import TaskViews

/// Reads the file tables of processes.
///
/// ```
/// task_struct → files_struct → fdtable → file … → its name, inode and file system
/// ```
/// Source: fs/proc/fd.c, `proc_fd_link` and `seq_show`.
package struct OpenFileReader: KernelReader {
  package static let subject = "the open files"

  private struct Task: KernelShape {
    static let type = "task_struct"
    let files = Field<VirtualAddress>("files")
  }

  private struct Files: KernelShape {
    static let type = "files_struct"
    let table = Place("fdt")
  }

  private struct Table: KernelShape {
    static let type = "fdtable"
    let size = Field<UInt64>("max_fds")
    let array = Field<VirtualAddress>("fd")
  }

  private let task: Bound<Task>, files: Bound<Files>, table: Bound<Table>
  private let fields: OpenFileFields
  private let paths: PathReader

  /// Descriptors of all processes together: no more are read, so that tables cannot ask for all memory.
  private static let mostDescriptors = 1 << 22

  package init(kernel: Kernel) throws {
    let types = kernel.types
    (task, files, table) = try types.bind()
    fields = try OpenFileFields(types)
    paths = try kernel.reader(PathReader.self)
  }

  /// The descriptors of `tasks` and the `struct file` of each. Cost: four round trips.
  package func descriptors(
    of tasks: [KernelTask], in space: AddressSpace, _ faults: inout [MemoryFault]
  ) -> [(task: KernelTask, descriptor: Int, file: VirtualAddress)] {
    var owners: [KernelTask] = []
    var pointers: [VirtualAddress] = []
    space.read(task, at: tasks.map(\.address)).forEach(&faults) { (task) throws(MemoryFault) in
      // A process that has ended has given its table back.
      let files = try task.files
      guard files.rawValue != 0 else { return }
      pointers.append(files + self.files.table.offset)
      owners.append(tasks[task.index])
    }
    var arrays = ReadBatch<VirtualAddress>()
    var entries = [Int?](repeating: nil, count: owners.count)
    var budget = Self.mostDescriptors
    space.read(table, at: space.pointers(at: pointers)).forEach(&faults) { (table) throws(MemoryFault) in
      let count = try table.size
      let array = try table.array
      guard count <= budget else {
        throw MemoryFault(.virtual(array), .inconsistent("a table of \(count) files"))
      }
      budget -= Int(count)
      entries[table.index] = arrays.add(array, count: Int(count) * 8)
    }
    space.read(&arrays)
    var open: [(task: KernelTask, descriptor: Int, file: VirtualAddress)] = []
    for (index, task) in owners.enumerated() {
      guard let entry = entries[index] else { continue }
      do throws(MemoryFault) {
        let reader = try arrays.reader(entry)
        for descriptor in 0..<reader.count / 8 {
          // Low bits may be flags of descriptors that are just being made.
          let file = try reader.pointer(descriptor * 8)
          guard file.rawValue != 0 else { continue }
          // A table that claims more than it has goes on in whatever lies behind it.
          guard file.rawValue >> 63 == 1 else {
            throw MemoryFault(
              .virtual(file), .inconsistent("descriptor \(descriptor) of process \(task.tgid) is no file"))
          }
          open.append((task, descriptor, file))
        }
      } catch {
        faults.append(error)
      }
    }
    return open
  }

  package func read(_ tasks: [KernelTask], in space: AddressSpace) -> OpenFileTable {
    var result = OpenFileTable()
    let open = descriptors(of: tasks, in: space, &result.faults)
    let found = fields.read(open.map(\.file), paths: paths, in: space)
    for (index, item) in open.enumerated() {
      do throws(MemoryFault) {
        guard let file = try found[index]?.get() else { continue }
        result.files.append(
          OpenFile(
            pid: item.task.tgid, comm: item.task.comm, descriptor: item.descriptor, name: file.name, mode: file.mode,
            major: file.device >> 20, minor: file.device & 0xfffff, inode: file.inode, size: file.size,
            links: file.links, position: file.position, flags: file.flags))
      } catch {
        result.faults.append(error)
      }
    }
    return result
  }
}

extension Kernel {
  /// The open files of process `pid`, or of all processes.
  ///
  /// Cost: that of ``tasks(_:)``, five round trips, and about two for each directory on the way to the deepest file.
  public func openFiles(ofProcess pid: Int32? = nil) throws(KernelError) -> OpenFileTable {
    try read(with: OpenFileReader.self) { reader in
      let table = try tasks(TaskQuery(includesCommandLines: false))
      let wanted = table.tasks.filter { pid == nil || $0.tgid == pid }
      if let pid, wanted.isEmpty { throw KernelError("process \(pid)", .inconsistent("there is no such process")) }
      return reader.read(wanted, in: addressSpace)
    }
  }
}
