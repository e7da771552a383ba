import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// Reads in which namespaces tasks are.
///
/// Source: fs/proc/namespaces.c and the `get` of each kind's `proc_ns_operations`; kernel/pid.c,
/// `task_active_pid_ns`.
struct NamespaceReader: KernelReader {
  static let subject = "the namespaces"

  private struct Task: KernelShape {
    static let type = "task_struct"
    let proxy = Field<VirtualAddress>("nsproxy")
    let credentials = Field<VirtualAddress>("real_cred")
    let pid = Field<VirtualAddress>("thread_pid")
  }

  /// The kinds that a kernel was built without are missing.
  private struct Proxy: KernelShape {
    static let type = "nsproxy"
    let mount = Field<VirtualAddress?>(optional: "mnt_ns")
    let network = Field<VirtualAddress?>(optional: "net_ns")
    let uts = Field<VirtualAddress?>(optional: "uts_ns")
    let ipc = Field<VirtualAddress?>(optional: "ipc_ns")
    let controlGroup = Field<VirtualAddress?>(optional: "cgroup_ns")
    let time = Field<VirtualAddress?>(optional: "time_ns")
  }

  private struct Credentials: KernelShape {
    static let type = "cred"
    let userNamespace = Field<VirtualAddress?>("user_ns")
  }

  private struct PID: KernelShape {
    static let type = "pid"
    let level = Field<UInt64>("level")
    let numbers = ArrayPlace("numbers", most: 33)
  }

  private struct PIDNumber: KernelShape {
    static let type = "upid"
    let namespace = Field<VirtualAddress?>("ns")
  }

  private struct Common: KernelShape {
    static let type = "ns_common"
    let number = Field<UInt64>("inum")
  }

  /// A namespace of any kind.
  struct Shape: KernelShape {
    static let type = "user_namespace"
    /// What all kinds share.
    let common = Place("ns")
    let owner = Field<VirtualAddress?>(optional: "user_ns")
    let parent = Field<VirtualAddress?>(optional: "parent")
  }

  private let task: Bound<Task>, proxy: Bound<Proxy>, credentials: Bound<Credentials>, pid: Bound<PID>
  private let pidNumber: Bound<PIDNumber>, common: Bound<Common>
  /// Each kind's struct; kinds that this kernel has not are missing.
  let kinds: [NamespaceKind: Bound<Shape>]

  /// MAX_PID_NS_LEVEL (include/linux/pid_namespace.h).
  private static let deepestPID: UInt64 = 32

  init(kernel: Kernel) throws {
    let types = kernel.types
    (task, proxy, credentials, pid, pidNumber, common) = try types.bind()
    var kinds: [NamespaceKind: Bound<Shape>] = [:]
    for kind in NamespaceKind.allCases { kinds[kind] = try? Bound(types, as: kind.structure) }
    self.kinds = kinds
  }

  /// The namespaces of the tasks at `addresses`. Cost: four round trips.
  func namespaces(
    ofTasks addresses: [VirtualAddress], in space: AddressSpace, _ faults: inout [MemoryFault]
  ) -> [[NamespaceKind: NamespaceID]] {
    let tasks = space.read(task, at: addresses)
    let (proxyAddresses, pidAddresses) = (tasks.pointers(\.proxy), tasks.pointers(\.pid))
    let proxies = space.read(proxy, at: proxyAddresses)
    let owners = space.read(credentials, at: tasks.pointers(\.credentials))
    // The innermost number's namespace is the one that the task is in.
    let active = space.read(
      pidNumber,
      at: space.read(pid, at: pidAddresses).map { pid in
        let level = Int(min((try? pid.level) ?? 0, Self.deepestPID))
        return pid.address + (pid.shape.numbers.offset + level * pid.shape.numbers.stride)
      })

    let found = addresses.indices.map { index in
      var own: [NamespaceKind: VirtualAddress?] = [:]
      _ = faults.keep { () throws(MemoryFault) in
        // A task that ends gives its namespaces back, and last its pid.
        if proxyAddresses[index].rawValue != 0 {
          let proxy = proxies[index]
          own = [
            .mount: try proxy.mount, .network: try proxy.network, .uts: try proxy.uts, .ipc: try proxy.ipc,
            .controlGroup: try proxy.controlGroup, .time: try proxy.time,
          ]
        }
        if pidAddresses[index].rawValue != 0 { own[.pid] = try active[index].namespace }
        own[.user] = try owners[index].userNamespace
      }
      return own.compactMapValues { $0 }
    }
    let numbers = self.numbers(of: found.flatMap { $0.map { ($0.key, $0.value) } }, in: space, &faults)
    return found.map { own in
      var result: [NamespaceKind: NamespaceID] = [:]
      for (kind, address) in own {
        if let number = numbers[address] { result[kind] = NamespaceID(address: address, number: number) }
      }
      return result
    }
  }

  /// The inode numbers of namespaces, by their addresses. Cost: one round trip.
  func numbers(
    of namespaces: [(NamespaceKind, VirtualAddress)], in space: AddressSpace, _ faults: inout [MemoryFault]
  ) -> [VirtualAddress: UInt64] {
    var offsets: [VirtualAddress: Int] = [:]
    for (kind, address) in namespaces { offsets[address] = kinds[kind]?.common.offset }
    let order = offsets.sorted { $0.key < $1.key }
    var numbers: [VirtualAddress: UInt64] = [:]
    space.read(common, at: order.map { $0.key + $0.value }).forEach(&faults) { (common) throws(MemoryFault) in
      numbers[order[common.index].key] = try common.number
    }
    return numbers
  }
}
