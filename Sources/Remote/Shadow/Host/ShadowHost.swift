import CodeViews
import Glibc
import KernelInfo
import LinuxKernel
import Memory
import NetworkViews
import StorageViews

/// The watched host as the files of one tree read it.
///
/// Processes are read all at once and kept for a moment: a tool that goes through them file by file would otherwise read each
/// of them several times, and see each at another time.
final class ShadowHost: Sendable {
  let kernel: Kernel
  /// What holds for as long as this kernel runs.
  let constants: HostConstants
  private let keptProcesses = Recent<ProcessTable>()
  private let keptSockets = Recent<[NetworkSocket]>()
  private let keptNetwork = Recent<NetworkConfiguration>()
  // Asked for by the way, again and again: for each file that programs look for in vain, and for each list of /proc.
  private let keptMounts = Recent<[MountPoint]>(for: .seconds(1))
  private let keptModules = Recent<Set<[UInt8]>>(for: .seconds(1))
  private let keptCPUs = Recent<Set<Int>>()
  private let keptTexts = RecentTable<TextKey, [UInt8]>(most: 128)

  /// A file that is the same for all processes of a namespace: where what makes it lies, and its name.
  struct TextKey: Hashable, Sendable {
    var places: [VirtualAddress]
    var name: String
  }

  init(_ kernel: Kernel) throws(KernelError) {
    self.kernel = kernel
    constants = try HostConstants(kernel)
  }

  /// The processes as they are now, or were a moment ago.
  ///
  /// Others who ask meanwhile wait for the same reading.
  func processes() throws -> ProcessTable {
    try keptProcesses.value { try kernel.processTable() }
  }

  /// The mounts of the first process, as they were a second ago at most.
  func mounts() throws -> [MountPoint] {
    try keptMounts.value { try Self.whole { try kernel.mounts() }.mounts }
  }

  /// The sockets of all namespaces, without who has them open, likewise.
  func sockets() throws -> [NetworkSocket] {
    try keptSockets.value { try Self.whole { try kernel.socketsWithoutOwners() }.sockets }
  }

  /// Interfaces, neighbours and routes of all namespaces, likewise.
  func network() throws -> NetworkConfiguration {
    try keptNetwork.value { try Self.whole { try kernel.network() } }
  }

  /// What a file holds that all processes of a namespace share, likewise.
  func text(_ key: TextKey, _ make: () throws -> [UInt8]) throws -> [UInt8] {
    try keptTexts.value(key, make)
  }

  /// Whether a module is loaded, likewise.
  func hasModule(_ name: String) throws -> Bool {
    guard kernel.symbols.address(of: "modules") != nil else { return false }
    let names = try keptModules.value { Set(try Self.whole { try kernel.modules() }.modules.map(\.name)) }
    return names.contains(Array(name.utf8))
  }

  /// The numbers of the CPUs that are online, likewise.
  func onlineCPUs() throws -> Set<Int> {
    try keptCPUs.value { Set(try kernel.cpus().filter(\.isOnline).map(\.number)) }
  }

  /// How long is waited before what was torn is read anew: on a host that opens and closes all the time, each reading may meet a
  /// change, and a list that is long is torn more often.
  private static let pauses: [useconds_t] = [1000, 2000, 4000, 8000, 16000, 32000]
  /// How long it is tried: what takes longer is not torn but broken.
  private static let patience = Duration.seconds(1)

  /// What `read` gives, whole: read again, a moment later, while something of it is torn.
  static func whole<Answer: Faulted>(_ read: () throws -> Answer) throws -> Answer {
    let start = ContinuousClock.now
    for pause in pauses {
      let answer = try read()
      if answer.faults.isEmpty || ContinuousClock.now - start > patience { return try answer.whole() }
      usleep(pause)
    }
    return try read().whole()
  }

  /// A thread, where there still is one of this id.
  func thread(_ tid: Int32) throws -> ProcessRecord {
    guard let record = try processes()[tid] else { throw ShadowError.missing }
    return record
  }
}
