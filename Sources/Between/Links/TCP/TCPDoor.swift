import Glibc
import Host
import Region
import Synchronization

/// Where connections come in: one thread sees to all that have no slots yet, and lends them slots.
///
/// Who says nothing costs a descriptor and no more, for a second at most, and where such ones are too many, the oldest
/// goes. Who has said hello waits in order for slots, where none are free. In a region with keys, slots are lent on trust: who
/// says nothing within a second or proves no key within five loses them, and where others wait, the first of those loses them at once. Without keys, that is who
/// has asked for nothing yet. Next goes who takes no answers.
final class TCPDoor: @unchecked Sendable {
  // But for the flag, used only by the thread that runs it.
  private let isStopped = Atomic<Bool>(false)
  private let listener: TCPSocket
  private let waker: Waker
  private let region: SharedRegion
  private let keeper: any SlotKeeper

  /// A connection that has not said all of its hello, and when it came.
  private struct Silent {
    let socket: TCPSocket
    let since: UInt64
    var hello: [UInt8] = []
  }

  /// A connection that waits for slots, and until when.
  private struct Waiting {
    let socket: TCPSocket
    let slots: Int
    let until: UInt64
  }

  private struct Lent {
    let borrower: TCPBorrower
    let thread: DedicatedThread
    var proof: SlotProof
    var isEvicted = false
  }

  /// Oldest first, all of them.
  private var silent: [Silent] = []
  private var queue: [Waiting] = []
  private var lent: [Lent] = []
  /// Before then there is no use in looking for free slots, or for connections to accept: there were none, or no descriptors.
  private var nextClaim: UInt64 = 0
  private var nextAccept: UInt64 = 0
  private var nextJudgement: UInt64 = 0
  private var limits: TCPLimits
  /// A descriptor kept for the claim of who waits longest, where there are no others; -1 while it is in use.
  private var reserve: Int32 = -1

  // Times in nanoseconds.
  private static let millisecond: UInt64 = 1_000_000
  /// How often to look which borrowers have a session.
  private static let judgementInterval = 100 * millisecond
  /// How often to look for slots while somebody waits: those of shared memory come back without a word.
  private static let claimInterval = 10 * millisecond
  /// How many connections are accepted before the others are seen to again.
  private static let acceptBatch = 64

  init(listener: TCPSocket, waker: Waker, region: SharedRegion, keeper: any SlotKeeper, limits: TCPLimits) {
    self.listener = listener
    self.waker = waker
    self.region = region
    self.keeper = keeper
    self.limits = limits
    reserve = fcntl(listener.descriptor, F_DUPFD_CLOEXEC, 0)
    // Less than none: no limit.
    let most = sysconf(Int32(_SC_OPEN_MAX))
    guard most >= 0 else { return }
    // Two for each borrower, its socket and its claim, and some for the rest of the process.
    let share = max(16, (most - 2 * region.layout.slotCount - 128) / 2)
    self.limits.silent = min(limits.silent, share)
    self.limits.waiting = min(limits.waiting, share)
  }

  /// Has the thread end, and all connections with it.
  func stop() {
    isStopped.store(true, ordering: .releasing)
    waker.wake()
  }

  func run() {
    while !isStopped.load(ordering: .acquiring) {
      reap()
      let now = SystemCall.monotonicNanoseconds()
      // Before anybody else is let in.
      if reserve < 0 { reserve = fcntl(listener.descriptor, F_DUPFD_CLOEXEC, 0) }
      if reserve < 0 { nextAccept = now + Self.claimInterval }
      // They are in the order in which they came, and all may take as long.
      let late = silent.firstIndex { $0.since + limits.hello > now } ?? silent.count
      silent.removeFirst(late)
      if keeper.isKeyed, now >= nextJudgement { judge(now) }
      lend(now)
      wait(from: now)
    }
    listener.shutdown()
    for one in lent { one.borrower.socket.shutdown() }
    for one in lent { one.thread.join() }
    silent = []
    queue = []
    lent = []
    if reserve >= 0 { close(reserve) }
  }

  /// Waits for something to do, and does what the connections ask for.
  private func wait(from now: UInt64) {
    var entries = [pollfd(fd: waker.descriptor, events: Int16(POLLIN), revents: 0)]
    // A negative descriptor is passed over.
    let isAccepting = now >= nextAccept
    entries.append(pollfd(fd: isAccepting ? listener.descriptor : -1, events: Int16(POLLIN), revents: 0))
    for one in silent { entries.append(pollfd(fd: one.socket.descriptor, events: Int16(POLLIN), revents: 0)) }
    // Of those who wait only their end is of interest.
    for one in queue { entries.append(pollfd(fd: one.socket.descriptor, events: Self.hangUp, revents: 0)) }

    var due = [queue.map(\.until).min(), silent.first.map { $0.since + limits.hello }].compactMap { $0 }
    if !isAccepting { due.append(nextAccept) }
    if !queue.isEmpty { due.append(nextClaim) }
    if keeper.isKeyed, !lent.isEmpty { due.append(nextJudgement) }
    let time = due.min().map { Int32(clamping: ($0 > now ? $0 - now : 0) / Self.millisecond + 1) } ?? -1
    guard poll(&entries, nfds_t(entries.count), time) > 0 else { return }

    if entries[0].revents != 0 {
      waker.drain()
      nextClaim = 0
    }
    let (silentCount, queueCount) = (silent.count, queue.count)
    let gone = (0..<queueCount).filter { entries[2 + silentCount + $0].revents != 0 }
    for index in gone.reversed() { queue.remove(at: index) }
    let ready = (0..<silentCount).filter { entries[2 + $0].revents != 0 }
    let over = ready.filter { hear($0) }
    for index in over.reversed() { silent.remove(at: index) }
    if entries[1].revents != 0 { accept() }
  }

  /// POLLRDHUP, which Swift's module of the C library leaves out: the other side sends nothing any more.
  private static let hangUp: Int16 = 0x2000

  private func accept() {
    for _ in 0..<Self.acceptBatch {
      guard let socket = listener.accept() else {
        let code = errno
        if code == EAGAIN || code == ECONNABORTED { return }
        // Out of descriptors or memory. Where nobody silent is there to go, others have to first.
        if !makeRoom() {
          nextAccept = SystemCall.monotonicNanoseconds() + Self.claimInterval
          return
        }
        continue
      }
      if silent.count >= limits.silent { makeRoom() }
      silent.append(Silent(socket: socket, since: SystemCall.monotonicNanoseconds()))
      // An honest client's hello comes with it.
      if hear(silent.count - 1) { silent.removeLast() }
    }
  }

  /// Closes the oldest connection that has not said hello, and says whether there was one.
  @discardableResult
  private func makeRoom() -> Bool {
    while !silent.isEmpty {
      // It may have, since it was heard last; then it waits for slots, and the next one goes.
      let waiting = queue.count
      let isOver = hear(0)
      silent.removeFirst()
      if !isOver || queue.count == waiting { return true }
    }
    return false
  }

  /// Takes in what a silent connection says.
  ///
  /// - Returns: whether it is not silent any more: it is gone, refused, or waits for slots.
  private func hear(_ index: Int) -> Bool {
    let socket = silent[index].socket
    var bytes = [UInt8](repeating: 0, count: TCPWire.helloSize - silent[index].hello.count)
    let received: Int
    do throws(LinkError) {
      guard let count = try bytes.withUnsafeMutableBytes({ socket.receive($0) }).get() else { return false }
      received = count
    } catch {
      return true
    }
    silent[index].hello += bytes.prefix(received)
    guard silent[index].hello.count == TCPWire.helloSize else { return false }
    switch TCPWire.parseHello(silent[index].hello) {
    case .malformed: break
    case .otherVersion(let version):
      refuse(socket, "it speaks version \(TCPWire.version) of the protocol, not \(version)")
    case .hello(let slots, let patience):
      if queue.count >= limits.waiting {
        refuse(socket, "\(allTaken) and \(queue.count) more wait for one: try again later, or \(Self.more)")
      } else {
        // A client that is told nothing in time has to guess why; so it is told some time before.
        let time = patience == 0 ? limits.patience : min(limits.patience, UInt64(patience) * Self.millisecond / 4 * 3)
        queue.append(
          Waiting(socket: socket, slots: slots, until: SystemCall.monotonicNanoseconds() + time))
        if queue.count == 1 { nextClaim = 0 }
      }
    }
    return true
  }

  private var allTaken: String { "all \(region.layout.slotCount) slots are taken by other sessions" }
  private static let more = "start grassd with more --slots"

  /// Says why to somebody who gets no slots.
  private func refuse(_ socket: TCPSocket, _ why: String) {
    // What was sent and not read would have the kernel throw away what is said now.
    withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 8) { _ = socket.receive($0) }
    let words = TCPWire.refusal(why).map(\.littleEndian)
    // Nothing was sent before, so there is room for it; who is gone does not read it.
    _ = words.withUnsafeBytes { socket.send($0) }
    socket.shutdown()
  }

  /// Lends slots to those who wait, in their order.
  private func lend(_ now: UInt64) {
    while now >= nextClaim, let first = queue.first {
      let claim: SlotClaim
      do throws(RegionError) {
        claim = try region.claim(slots: first.slots)
      } catch {
        switch error.reason {
        case .noFreeSlot:
          nextClaim = now + Self.claimInterval
          evictOne(now)
        case .system(_, let code) where code == EMFILE || code == ENFILE:
          if makeRoom() { continue }
          if reserve >= 0 {
            close(reserve)
            reserve = -1
            continue
          }
          nextClaim = now + Self.claimInterval
          evictOne(now)
        default:
          queue.removeFirst()
          refuse(first.socket, error.description)
          continue
        }
        break
      }
      queue.removeFirst()
      serve(TCPBorrower(socket: first.socket, claim: claim))
    }
    for one in queue where one.until <= now {
      refuse(one.socket, "\(allTaken), and none came back in time: end one, or \(Self.more)")
    }
    queue.removeAll { $0.until <= now }
  }

  private func serve(_ borrower: TCPBorrower) {
    let (region, keeper, waker, limits) = (region, keeper, waker, limits)
    let proof = SlotProof(region: region, slots: borrower.slots)
    borrower.socket.watchForDeath()
    do throws(SystemCallError) {
      let thread = try DedicatedThread(name: "grass-tcp") {
        var connection = TCPConnection(borrower: borrower, region: region, keeper: keeper, limits: limits)
        connection.run()
        borrower.end()
        waker.wake()
      }
      lent.append(Lent(borrower: borrower, thread: thread, proof: proof))
    } catch {
      refuse(borrower.socket, "the monitored side can start no more threads: \(describeError(error.code))")
      borrower.end()
    }
  }

  /// Joins the threads that have ended.
  private func reap() {
    for one in lent where one.borrower.hasEnded.load(ordering: .acquiring) { one.thread.join() }
    lent.removeAll { $0.borrower.hasEnded.load(ordering: .acquiring) }
  }

  /// Looks which borrowers have a session, and ends the connections of those who had none for too long.
  private func judge(_ now: UInt64) {
    nextJudgement = now + Self.judgementInterval
    for index in lent.indices where !lent[index].isEvicted {
      let borrower = lent[index].borrower
      let granted = borrower.granted.load(ordering: .acquiring)
      // A device that cannot be read serves nobody: the connection finds that out by itself.
      guard granted != 0, let line = try? region.word(at: region.layout.lineOffset(slot: borrower.slots.lowerBound))
      else { continue }
      // The connection may have seen a session that is gone already.
      let wasProven = borrower.isProven.exchange(line != 0, ordering: .relaxed)
      let isOverdue = lent[index].proof.isOverdue(
        hasSession: line != 0 || wasProven, region: region, slots: borrower.slots, granted: granted, now: now,
        silence: limits.silence, handshake: limits.handshake, renewal: limits.renewal)
      if isOverdue { evict(index) }
    }
  }

  /// Takes the slots of a borrower who makes no use of them, where nobody else is about to give some back: of the first who has
  /// proved nothing, or of who has taken no answers for the longest time.
  private func evictOne(_ now: UInt64) {
    if keeper.isKeyed { judge(now) }
    guard lent.count(where: \.isEvicted) < queue.count else { return }
    let held = lent.indices.filter { !lent[$0].isEvicted && lent[$0].borrower.granted.load(ordering: .acquiring) != 0 }
    let grace = keeper.isKeyed ? 0 : limits.readingInNeed
    let unproven = held.first {
      let borrower = lent[$0].borrower
      return !borrower.isProven.load(ordering: .relaxed) && borrower.granted.load(ordering: .relaxed) + grace <= now
    }
    if let unproven { return evict(unproven) }
    let stalled = held.map { (index: $0, since: lent[$0].borrower.stalled.load(ordering: .relaxed)) }
      .filter { $0.since != 0 && $0.since + limits.readingInNeed <= now }
    if let longest = stalled.min(by: { $0.since < $1.since }) { evict(longest.index) }
  }

  private func evict(_ index: Int) {
    lent[index].isEvicted = true
    // Its thread ends by that, and gives the slots back.
    lent[index].borrower.socket.shutdown()
  }
}
