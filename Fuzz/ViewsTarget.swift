import Detection
import Glibc
import KernelInfo
import KernelViews
import Lab
import Memory
import Paging
import Samples
import Synchronization

extension FuzzTarget {
  /// Every view and every detector of a real guest's memory, with changes laid over it where they read.
  ///
  /// The views that read all of the memory are left out: they take too long.
  ///
  /// An input is the number of a view, or of a detector behind the views, and then changes: `u8 kind, u32 read, u16 offset, u64 value`. Read and offset choose a
  /// byte of what the view reads of the unchanged memory; the kind says what is put there.
  static let views = FuzzTarget(
    name: "views",
    seeds: {
      func change(_ kind: UInt8, _ read: UInt32, _ value: UInt64 = 0) -> [UInt8] {
        [kind] + bytes(read) + bytes(UInt16(truncatingIfNeeded: read)) + bytes(value)
      }
      return (0..<FuzzedGuest.askers.count).flatMap { view in
        // Far from each other, and no multiple of what the views read at once.
        (0..<4).map { round in
          let place = UInt32(view * 977 + round * 7919)
          return [UInt8(view)]
            + (0..<7).flatMap { change(UInt8($0), place &* UInt32($0 + 1), UInt64(place) &* 0x9e37_79b9) }
        }
      }
    },
    prepare: { _ = FuzzedGuest.shared },
    run: { FuzzedGuest.shared.look($0) })
}

/// The memory of a guest that stands still, with bytes that each input changes.
private final class ChangedMemory: PhysicalMemory {
  struct Range {
    var start: UInt64
    var count: Int
  }

  private struct State {
    var changes: [(address: UInt64, bytes: [UInt8])] = []
    /// What is read, while that is wanted.
    var reads: [Range]?
  }

  private let base: any PhysicalMemory
  private let state = Mutex(State())
  let segments: [MemorySegment]

  init(_ base: any PhysicalMemory) { (self.base, segments) = (base, base.segments) }

  func read(_ batch: inout ReadBatch<PhysicalAddress>) {
    state.withLock { state in
      for entry in batch.entries where state.reads != nil && entry.count > 0 {
        state.reads?.append(Range(start: entry.address.rawValue, count: entry.count))
      }
      guard !state.changes.isEmpty else { return base.read(&batch) }
      var original = batch
      base.read(&original)
      batch.fillAll { target in
        target.copyBytes(from: original.bytes)
        for entry in original.entries {
          for change in state.changes {
            for (position, byte) in change.bytes.enumerated() {
              let place = change.address &+ UInt64(position) &- entry.address.rawValue
              if place < UInt64(entry.count) { target[entry.offset + Int(place)] = byte }
            }
          }
        }
        return original.faults
      }
    }
  }

  /// What `body` reads of the memory as it is.
  func reads(_ body: () -> Void) -> [Range] {
    state.withLock { $0.reads = [] }
    body()
    return state.withLock { state in
      defer { state.reads = nil }
      return state.reads ?? []
    }
  }

  /// Runs `body` on the memory with `changes`.
  func with(_ changes: [(address: UInt64, bytes: [UInt8])], _ body: () -> Void) {
    state.withLock { $0.changes = changes }
    body()
    state.withLock { $0.changes = [] }
  }
}

/// Whether the memory holds what a finding blames, as the view of such things has it; true for kinds that no view lists, and where
/// the view itself cannot be had.
private func isHeld(_ subject: Subject, by kernel: Kernel) -> Bool {
  switch subject {
  case .task(let tid, let start, _):
    (try? kernel.tasks())?.tasks.contains { $0.tid == tid && $0.startTime == start } ?? true
  case .program(let id, _): (try? kernel.bpf())?.programs.contains { $0.id == id } ?? true
  case .interface(let name, let namespace):
    (try? kernel.network())?.interfaces.contains { $0.name == name && $0.namespace == namespace } ?? true
  case .table(let name, _):
    Detectors.detector(named: name) != nil || name.contains(" ") || name.contains(".")
      || kernel.symbols.address(of: name) != nil
  case .lock(let address, _), .code(let address): (try? kernel.addressSpace.read(address, count: 8)) != nil
  default: true
  }
}

/// A guest with something for each view to see, paused, and its kernel.
private final class FuzzedGuest: Sendable {
  /// Each asks something of the kernel.
  typealias Asker = @Sendable (LiveView.Subject) throws -> Void
  static let askers: [Asker] =
    LiveView.all.filter { !$0.isSearch }.map { view -> Asker in { @Sendable subject in _ = try view.look(subject) } }
    + Detectors.all.map { detector -> Asker in
      { @Sendable subject in
        let report = Check(detectors: [detector], pause: .zero, alwaysLooksTwice: true).run(on: subject.kernel) { _ in }
        for finding in report.findings where finding.confidence == .proven {
          for blamed in finding.subjects {
            require(
              isHeld(blamed, by: subject.kernel),
              "\(finding.title): that is said to be proven, and the memory holds no \(blamed.kind) \(blamed.key)")
          }
        }
      }
    }
  static let shared = boot()
  /// Changes of one input.
  private static let most = 32

  private let guest: Guest
  private let memory: ChangedMemory
  private let subject: LiveView.Subject
  private let directMap: UInt64
  /// By who asks: what is read for it.
  private let known: [[ChangedMemory.Range]]

  private init(kernel label: String) throws {
    guest = try Guest(GuestOptions(kernel: label, memory: 256, sleepers: 5))
    let process = try guest.run(
      """
      mkdir -p /tmp/group /tmp/mounted; mount -t cgroup2 none /tmp/group; mkdir -p /tmp/group/outer/inner
      mount -t tmpfs fuzz /tmp/mounted; ip link set lo up; seq 1 10000 > /tmp/mounted/file
      for mode in locks bpf held sockets; do MODE=$mode /bin/workload > /dev/null 2>&1 & done
      unshare -n -u -i -m sleep 99901 > /dev/null 2>&1 & sleep 6; pidof files
      """
    ).text
    try guest.pause()
    memory = ChangedMemory(try Kernel.open(try MemoryImage.open(guest.memoryPath)).memory)
    let kernel = try Kernel(memory: memory)
    guard let pid = Int32(process.filter(\.isNumber)), let base = kernel.symbols.address(of: "page_offset_base") else {
      fatalError("the guest is not as it should be: \(process)")
    }
    // Little-endian.
    directMap = try kernel.addressSpace.read(base, count: 8).reversed().reduce(0) { $0 << 8 | UInt64($1) }
    let subject = LiveView.Subject(kernel: kernel, process: pid, text: [])
    let memory = memory
    self.subject = subject
    known = try Self.askers.map { ask in
      // Twice: what is worked out once for a kernel is worked out from the truth.
      try ask(subject)
      return memory.reads { try? ask(subject) }
    }
  }

  private static func boot() -> FuzzedGuest {
    do {
      return try FuzzedGuest(kernel: getenv("GRASS_FUZZ_KERNEL").map { String(cString: $0) } ?? "6.1")
    } catch {
      fatalError("\(error)")
    }
  }

  func look(_ bytes: [UInt8]) {
    var input = FuzzInput(bytes)
    let asker = Int(input.next(UInt8.self)) % Self.askers.count
    let reads = known[asker]
    guard !reads.isEmpty else { return }
    var changes: [(address: UInt64, bytes: [UInt8])] = []
    while !input.isEmpty, changes.count < Self.most {
      let kind = input.next(UInt8.self)
      let read = reads[Int(input.next(UInt32.self)) % reads.count]
      let place = read.start &+ UInt64(input.next(UInt16.self)) % UInt64(read.count)
      let value = input.next(UInt64.self)
      // Pointers and most counts are aligned words.
      let word = place & ~7
      switch kind % 8 {
      case 0: changes.append((place, [UInt8(truncatingIfNeeded: value)]))
      case 1: changes.append((word, Samples.bytes(value)))
      case 2: changes.append((word, Samples.bytes(0 as UInt64)))
      case 3: changes.append((word, Samples.bytes(UInt64.max >> (value % 64))))
      // A pointer to itself, or to something near that the view reads as well.
      case 4: changes.append((word, Samples.bytes(directMap &+ word)))
      case 5: changes.append((word, Samples.bytes(directMap &+ word &- value % 512)))
      case 6:
        let other = reads[Int(value >> 16) % reads.count].start
        changes.append((word, Samples.bytes(directMap &+ (other & ~7) &+ value % 64 * 8)))
      // Text without an end.
      default: changes.append((place, [UInt8](repeating: UInt8(truncatingIfNeeded: value | 1), count: 64)))
      }
    }
    memory.with(changes) { try? Self.askers[asker](subject) }
  }
}
