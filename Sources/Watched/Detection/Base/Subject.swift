public import Memory
import TaskViews
public import Views

/// What a finding is about.
public enum Subject: Hashable, Sendable {
  case host
  case cpu(Int)
  /// A task, told from a later one of the same number by when it began, in nanoseconds since boot.
  case task(tid: Int32, start: UInt64, comm: [UInt8])
  case lock(VirtualAddress, name: String?)
  /// A module, by the address of its struct or of what is left of it.
  case module(VirtualAddress, name: [UInt8])
  /// A function of the kernel, by its name or by its address where it has none.
  case function(String)
  /// Code that belongs to nothing that is known, by the page that it starts in.
  case code(VirtualAddress)
  case disk([UInt8])
  case interface([UInt8], namespace: UInt64)
  case file(device: UInt64, inode: UInt64, name: [UInt8])
  /// An entry of a table of the kernel, or the table itself.
  case table(String, entry: Int?)
  case workQueue(String)
  case program(id: UInt32, name: [UInt8])
  case socket(VirtualAddress, name: String)
  /// The observer itself: a detector, or a reader.
  case observer(String)

  /// What kind it is, in one word.
  public var kind: String {
    switch self {
    case .host: "host"
    case .cpu: "cpu"
    case .task: "task"
    case .lock: "lock"
    case .module: "module"
    case .function: "function"
    case .code: "code"
    case .disk: "disk"
    case .interface: "interface"
    case .file: "file"
    case .table: "table"
    case .workQueue: "workqueue"
    case .program: "program"
    case .socket: "socket"
    case .observer: "observer"
    }
  }

  /// What makes it this one and no other, stable from look to look.
  package var key: String {
    switch self {
    case .host: ""
    case .cpu(let number): "\(number)"
    case .task(let tid, let start, _): "\(tid) \(start)"
    case .lock(let address, _), .module(let address, _), .code(let address): "\(address)"
    case .function(let name), .workQueue(let name), .observer(let name): name
    case .disk(let name): name.printable
    case .interface(let name, let namespace): "\(name.printable) \(namespace)"
    case .file(let device, let inode, _): "\(device) \(inode)"
    case .table(let name, let entry): "\(name) \(entry.map { "\($0)" } ?? "")"
    case .program(let id, _): "\(id)"
    case .socket(let address, _): "\(address)"
    }
  }

  /// As a sentence names it.
  public var text: String {
    switch self {
    case .host: "the host"
    case .cpu(let number): "CPU \(number)"
    case .task(let tid, _, let comm): "\(comm.printable) (\(tid))"
    case .lock(let address, let name): name ?? "the lock at \(address)"
    case .module(let address, let name): name.isEmpty ? "a module at \(address)" : "module \(name.printable)"
    case .function(let name): name
    case .code(let address): "code at \(address)"
    case .disk(let name): "disk \(name.printable)"
    case .interface(let name, _): "interface \(name.printable)"
    case .file(_, let inode, let name): name.isEmpty ? "the file of inode \(inode)" : name.printable
    case .table(let name, let entry): entry.map { "entry \($0) of \(name)" } ?? name
    case .workQueue(let name): "work queue \(name)"
    case .program(let id, let name): "BPF program \(name.isEmpty ? "" : "\(name.printable) ")(\(id))"
    case .socket(_, let name): name
    case .observer(let name): name
    }
  }

  public var value: ViewValue {
    var members = [ViewValue.Member("kind", kind)]
    switch self {
    case .host: break
    case .cpu(let number): members.append(.init("cpu", number))
    case .task(let tid, let start, let comm):
      members += [.init("tid", tid), .init("start", Double(start) / 1e9), .init("comm", comm)]
    case .lock(let address, let name): members += [.init("address", address), .init("name", name.orAbsent)]
    case .module(let address, let name): members += [.init("address", address), .init("name", name)]
    case .function(let name), .workQueue(let name), .observer(let name): members.append(.init("name", name))
    case .code(let address): members.append(.init("address", address))
    case .disk(let name): members.append(.init("name", name))
    case .interface(let name, let namespace): members += [.init("name", name), .init("namespace", namespace)]
    case .file(let device, let inode, let name):
      members += [.init("device", device), .init("inode", inode), .init("name", name)]
    case .table(let name, let entry): members += [.init("name", name), .init("entry", entry.orAbsent)]
    case .program(let id, let name): members += [.init("id", id), .init("name", name)]
    case .socket(let address, let name): members += [.init("address", address), .init("name", name)]
    }
    return .object(members)
  }

  public static func task(_ task: KernelTask) -> Subject {
    .task(tid: task.tid, start: task.startTime, comm: task.comm)
  }
}

extension Subject: CustomStringConvertible {
  public var description: String { text }
}
