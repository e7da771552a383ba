/// What guest to boot.
public struct GuestOptions: Sendable, Hashable {
  /// How deep the guest's page tables are.
  public enum Paging: Int, Sendable, CaseIterable {
    case fourLevel = 4
    case fiveLevel = 5
  }

  /// QEMU's machine types, which lay out RAM in different ways.
  public enum Machine: String, Sendable, CaseIterable {
    case q35, pc

    /// From how many MiB on RAM lies on both sides of the hole for PCI devices.
    public var splitMemory: Int {
      switch self {
      case .q35: 2816
      case .pc: 3584
      }
    }
  }

  public var machine = Machine.q35
  /// A label (`6.1`, `6.12-cloud`), a release, or the path of a vmlinuz.
  public var kernel: String
  /// RAM in MiB.
  public var memory: Int
  /// Whether its RAM lies in huge pages of this machine's.
  public var hugePages = false
  public var cpus: Int
  public var paging: Paging
  /// How many plain processes to start beside one of every kind; nil for no workload at all.
  public var sleepers: Int?
  /// Whether the program that breaks guests on purpose lies in its /bin; see ``Break``.
  public var isBreakable = false
  /// What to append to the kernel's command line.
  public var commandLine: String
  /// A network card, with a software RDMA device on it; nil for none.
  public var network: Network?
  /// Memory that the guest sees as the second region of a PCI device, as a card sees that of its host.
  public var watched: WatchedMemory?
  /// Whether it boots Debian with systemd from a disk, in place of busybox from memory; see ``KernelStore/diskImage()``.
  ///
  /// What it writes is gone with it.
  public var hasDisk = false
  /// Paths of this machine's programs that go into the guest's /bin, with the libraries that they load; kernel modules
  /// go into /modules, and are not loaded.
  public var programs: [String]

  /// A network card on a cable that joins two guests.
  public struct Network: Sendable, Hashable {
    /// The guest's IPv4 address; its network has 24 bits.
    public var address: String
    /// The cable's name: the same for both guests, and no other on this machine.
    public var cable: String
    /// Whether this guest holds the cable, and so boots first.
    public var holdsCable: Bool

    public init(address: String, cable: String, holdsCable: Bool) {
      self.address = address
      self.cable = cable
      self.holdsCable = holdsCable
    }
  }

  /// Another guest's RAM.
  public struct WatchedMemory: Sendable, Hashable {
    public var path: String
    /// In MiB: a power of two, as PCI demands.
    public var size: Int

    public init(path: String, size: Int) {
      self.path = path
      self.size = size
    }
  }

  public init(
    kernel: String = "6.1", memory: Int = 1024, cpus: Int = 2, paging: Paging = .fourLevel, sleepers: Int? = 20,
    commandLine: String = "", network: Network? = nil, watched: WatchedMemory? = nil, programs: [String] = []
  ) {
    self.network = network
    self.watched = watched
    self.programs = programs
    self.kernel = kernel
    self.memory = memory
    self.cpus = cpus
    self.paging = paging
    self.sleepers = sleepers
    self.commandLine = commandLine
  }
}
