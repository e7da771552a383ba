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

  typealias Field = FieldSelection.Field
  private let task: FieldSelection
  private let proxyField, credentialField, pidField: Field
  private let proxy: FieldSelection
  /// Of those kinds that `nsproxy` names.
  private let proxyFields: [(kind: NamespaceKind, field: Field)]
  private let credentials: FieldSelection
  private let userNamespace: Field
  private let pid: FieldSelection
  private let level: Field
  private let numbers, numberSize, numberNamespace: Int
  /// Where in each kind's struct its common part lies; kinds that this kernel has not are missing.
  let commonOffset: [NamespaceKind: Int]
  private let inodeNumber: Int

  /// MAX_PID_NS_LEVEL (include/linux/pid_namespace.h).
  private static let deepestPID: UInt64 = 32

  init(kernel: Kernel) throws {
    let types = kernel.types
    var fields = FieldSelection(try types.structure("task_struct"))
    proxyField = try fields.want("nsproxy")
    credentialField = try fields.want("real_cred")
    pidField = try fields.want("thread_pid")
    task = fields
    let layout = try types.structure("nsproxy")
    fields = FieldSelection(layout)
    var proxies: [(kind: NamespaceKind, field: Field)] = []
    let names: [(NamespaceKind, String)] = [
      (.mount, "mnt_ns"), (.network, "net_ns"), (.uts, "uts_ns"), (.ipc, "ipc_ns"), (.controlGroup, "cgroup_ns"),
      (.time, "time_ns"),
    ]
    for (kind, name) in names where layout.hasField(name) { proxies.append((kind, try fields.want(name))) }
    proxyFields = proxies
    proxy = fields
    fields = FieldSelection(try types.structure("cred"))
    userNamespace = try fields.want("user_ns")
    credentials = fields
    let pidLayout = try types.structure("pid")
    fields = FieldSelection(pidLayout)
    level = try fields.want("level")
    pid = fields
    numbers = try pidLayout.field("numbers").offset
    let number = try types.structure("upid")
    numberSize = number.size
    numberNamespace = try number.field("ns").offset
    var offsets: [NamespaceKind: Int] = [:]
    for kind in NamespaceKind.allCases {
      offsets[kind] = try? types.structure(kind.structure).field("ns").offset
    }
    commonOffset = offsets
    inodeNumber = try types.structure("ns_common").field("inum").offset
  }

  /// The namespaces of the tasks at `addresses`. Cost: four round trips.
  func namespaces(
    ofTasks addresses: [VirtualAddress], in space: AddressSpace, _ faults: inout [MemoryFault]
  ) -> [[NamespaceKind: NamespaceID]] {
    let tasks = space.read(task, at: addresses)
    func pointers(_ field: Field) -> [VirtualAddress] {
      addresses.indices.map { (try? tasks.pointer($0, field)) ?? VirtualAddress(0) }
    }
    let (proxyAddresses, credentialAddresses, pidAddresses) = (
      pointers(proxyField), pointers(credentialField), pointers(pidField)
    )
    let proxies = space.read(proxy, at: proxyAddresses)
    let owners = space.read(credentials, at: credentialAddresses)
    let pids = space.read(pid, at: pidAddresses)
    var active = ReadBatch<VirtualAddress>()
    for index in addresses.indices {
      // The innermost number's namespace is the one that the task is in.
      let level = min((try? pids.load(index, level)) ?? 0, Self.deepestPID)
      active.add(pidAddresses[index] + (numbers + Int(level) * numberSize + numberNamespace), count: 8)
    }
    space.read(&active)

    var found: [[NamespaceKind: VirtualAddress]] = []
    for index in addresses.indices {
      var own: [NamespaceKind: VirtualAddress] = [:]
      do throws(MemoryFault) {
        // A task that ends gives its namespaces back, and last its pid.
        if proxyAddresses[index].rawValue != 0 {
          for (kind, field) in proxyFields { own[kind] = try proxies.pointer(index, field) }
        }
        if pidAddresses[index].rawValue != 0 { own[.pid] = try active.reader(index).pointer(0) }
        own[.user] = try owners.pointer(index, userNamespace)
      } catch {
        faults.append(error)
      }
      found.append(own.filter { $0.value.rawValue != 0 })
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
    for (kind, address) in namespaces { offsets[address] = commonOffset[kind] }
    let order = Array(offsets.keys).sorted()
    var batch = ReadBatch<VirtualAddress>()
    for address in order { batch.add(address + ((offsets[address] ?? 0) + inodeNumber), count: 4) }
    space.read(&batch)
    var numbers: [VirtualAddress: UInt64] = [:]
    for (index, address) in order.enumerated() {
      do throws(MemoryFault) {
        numbers[address] = UInt64(try batch.reader(index).u32(0))
      } catch {
        faults.append(error)
      }
    }
    return numbers
  }
}
