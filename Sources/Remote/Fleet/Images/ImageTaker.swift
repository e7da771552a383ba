import Acquisition
import Detection
import FoundationEssentials
import Glibc
import Host
import ImageStore
import KernelViews
import Keys
import LinuxKernel
import Logging
import Memory
import Output
import Remote

/// Takes images of hosts' memory into the store, one after the other: by rules, and because somebody asks.
///
/// What is asked for is in the database before it begins. An image that was interrupted keeps what it has: the next of the same host
/// and boot goes on there.
public final class ImageTaker: Sendable {
  private struct State {
    var settings: FleetConfiguration.Images?
    /// What is not over, by number.
    var open: [Int64: ImageRequest] = [:]
    var cancelled: Set<Int64> = []
    var isEnding = false
    var figures = Figures()
  }

  /// Counts since the service began.
  public struct Figures: Sendable {
    /// By what became of them.
    public var ended: [ImageRequest.State: UInt64] = [:]
    /// Bytes of memory in images that are whole.
    public var bytes: UInt64 = 0
    public var waiting = 0
  }

  private let store: FleetStore
  private let events: EventHub
  private let log: Logger
  private let open: @Sendable (String) throws -> Session?
  private let builds: BuildFolder?
  private let state: Locked<State>
  private let taking: WorkPool

  /// Who asks where a rule does.
  static let service = "grass-fleet"
  private static let day = 86400.0
  /// Between two events of how far an image has got, in nanoseconds.
  private static let eventPause: UInt64 = 500_000_000

  /// - Parameters:
  ///   - settings: where images go and which rules there are; nil for none.
  ///   - store: where what is asked for is kept.
  ///   - events: told of each that is asked for, how far it has got, and its end.
  ///   - builds: known builds.
  ///   - log: where faults go.
  ///   - open: connects to a host by its name.
  /// - Throws: ``SystemCallError`` where there can be no thread.
  init(
    _ settings: FleetConfiguration.Images?, store: FleetStore, events: EventHub, builds: BuildFolder?, log: Logger,
    open: @escaping @Sendable (String) throws -> Session?
  ) throws(SystemCallError) {
    (self.store, self.events, self.builds, self.log, self.open) = (store, events, builds, log, open)
    state = Locked(State(settings: settings))
    taking = try WorkPool(name: "image", threads: 1)
  }

  /// Says of what an earlier service left that it was interrupted.
  func start() {
    try? store.endImages(
      problem: "the service ended before it was whole; the next image goes on with it", at: Moments.utc)
  }

  func reload(_ settings: FleetConfiguration.Images?) { state.withLock { $0.settings = settings } }

  /// Ends what is under way.
  func finish() {
    state.withLock { $0.isEnding = true }
    taking.finish()
  }

  /// Whether images are taken at all.
  public var isOn: Bool { state.withLock { $0.settings != nil } }

  /// What is left out of images that somebody asks for, where they do not say.
  public var level: Int { state.withLock { $0.settings?.level ?? 0 } }

  /// What is not over, the oldest first.
  public var requests: [ImageRequest] { state.withLock { $0.open.values.sorted { $0.number < $1.number } } }

  public var figures: Figures {
    state.withLock { state in
      var figures = state.figures
      figures.waiting = state.open.count
      return figures
    }
  }

  // MARK: Asking

  /// Why there is no image.
  public struct Refusal: Error, CustomStringConvertible {
    public let description: String
  }

  /// Asks for an image of a host.
  ///
  /// - Returns: what was asked for, or what is under way already.
  /// - Throws: ``Refusal`` where none are taken, ``StoreError``.
  public func ask(_ host: String, who: String, reason: String, level: Int, rule: String = "") throws -> ImageRequest {
    guard isOn else { throw Refusal(description: "no images are taken: the configuration has no `images:`") }
    if let request = requests.first(where: { $0.host == host }) { return request }
    var request = ImageRequest(
      number: 0, host: host, who: who, reason: reason, rule: rule, level: level, state: .waiting, asked: Moments.utc)
    request.number = try store.keep(request)
    let isNew = state.withLock { [request] state in
      guard !state.open.values.contains(where: { $0.host == host }) else { return false }
      state.open[request.number] = request
      return true
    }
    guard isNew else {
      request.state = .cancelled
      request.problem = "another of this host is under way"
      request.ended = Moments.utc
      _ = try store.keep(request)
      return request
    }
    publish(request)
    taking.add { [self, number = request.number] in take(number) }
    return request
  }

  /// Ends an image that is not whole; what it has goes into the next one.
  ///
  /// - Returns: false where it is over already, or there is none.
  public func cancel(_ number: Int64) -> Bool {
    state.withLock { state in
      guard state.open[number] != nil else { return false }
      state.cancelled.insert(number)
      return true
    }
  }

  // MARK: Rules

  /// A host has another state.
  func see(_ host: String, _ standing: Standing) {
    apply(to: host, "\(standing.state.rawValue): \(standing.cause)") { $0.states.contains(standing.state.rawValue) }
  }

  /// Something was found of a host.
  func see(_ host: String, _ finding: OpenFinding) {
    apply(to: host, "\(finding.detector): \(finding.title)") { $0.takes(finding) }
  }

  private func apply(to host: String, _ reason: String, _ isMeant: (FleetConfiguration.Images.Rule) -> Bool) {
    let rules = state.withLock { $0.isEnding ? [] : $0.settings?.rules ?? [] }.filter(isMeant)
    guard !rules.isEmpty else { return }
    // Whoever sees it waits for no database.
    taking.add { [self] in
      for rule in rules {
        do {
          let taken = try store.imageCount(of: host, rule: rule.words, since: Moments.utc - Self.day)
          guard taken < rule.perDay else { continue }
          _ = try ask(host, who: Self.service, reason: reason, level: rule.level, rule: rule.words)
          return
        } catch {
          log.error("no image of \(host) is taken: \(error)")
        }
      }
    }
  }

  // MARK: Taking

  private func change(_ number: Int64, _ body: (inout ImageRequest) -> Void) -> ImageRequest? {
    state.withLock { state in
      guard var request = state.open[number] else { return nil }
      body(&request)
      state.open[number] = request
      return request
    }
  }

  private func isCancelled(_ number: Int64) -> Bool { state.withLock { $0.isEnding || $0.cancelled.contains(number) } }

  private func publish(_ request: ImageRequest) {
    events.publish(FleetEvent(.image, host: request.host, json: FleetJSON.bytes(FleetJSON.image(request))))
  }

  private func take(_ number: Int64) {
    guard let settings = state.withLock({ $0.settings }),
      let request = change(number, { $0.state = .running })
    else { return }
    var ending: (state: ImageRequest.State, problem: String?) = (.done, nil)
    if isCancelled(number) {
      ending = (.cancelled, nil)
    } else {
      publish(request)
      do {
        let taken = try acquire(request, by: settings)
        _ = change(number) { request in
          (request.image, request.stored) = (taken.name, taken.stored)
          request.done = request.total
        }
        if taken.unread > 0 { ending.problem = "\(taken.unread) bytes could not be read" }
      } catch {
        ending = isCancelled(number) ? (.cancelled, nil) : (.failed, FleetWatch.oneLine("\(error)"))
      }
    }
    let ended = change(number) { request in
      (request.state, request.problem, request.ended) = (ending.state, ending.problem, Moments.utc)
    }
    guard let ended else { return }
    do throws(StoreError) { _ = try store.keep(ended) } catch { log.error("\(error)") }
    state.withLock { state in
      state.open[number] = nil
      state.cancelled.remove(number)
      state.figures.ended[ending.state, default: 0] += 1
      if ending.state == .done { state.figures.bytes += ended.total }
    }
    log.notice("image of \(ended.host): \(ended.state.rawValue)", metadata: ["problem": "\(ended.problem ?? "none")"])
    publish(ended)
  }

  /// An image that is whole.
  private struct Taken {
    /// Its ID in the store, or the name of its file.
    var name: String
    /// Bytes by which the store or the folder grew, and those of memory that could not be read.
    var (stored, unread): (UInt64, UInt64)
  }

  private func acquire(_ request: ImageRequest, by settings: FleetConfiguration.Images) throws -> Taken {
    guard let session = try open(request.host) else { throw OpenKernels.NoSuchHost() }
    defer { session.close() }
    guard session.rights.rights.isSuperset(of: [.read, .acquire]) else {
      throw Refusal(description: "this service's key needs the rights read and acquire in the host's authorized_keys")
    }
    let memory = try RemoteMemory(session: session)
    // Of a host without a kernel that is found there is an image all the same, of all of it.
    let kernel = try? Kernel(memory: memory, hint: memory.kernelHint, known: builds)
    let level = DumpLevel(rawValue: request.level)
    let frames = kernel.flatMap { try? $0.frameMap() }
    guard frames != nil || !level.needsClasses else {
      throw Refusal(
        description:
          "level \(request.level) needs the classes of page frames, which cannot be read; level 0 does without")
    }
    let contents = ImageContents(of: memory.segments, frames, level, kernel: kernel.map(KernelFacts.init))
    let identity = Acquisition.identity(of: kernel)
    var told: UInt64 = 0
    /// Says how far it has got, and whether it is to go on.
    func goesOn(_ progress: AcquisitionProgress) -> Bool {
      let request = change(request.number) { ($0.done, $0.total) = (progress.done, progress.total) }
      let now = Moments.nanoseconds
      if now - told >= Self.eventPause, let request {
        told = now
        publish(request)
      }
      return !isCancelled(request?.number ?? 0)
    }
    switch settings.destination {
    case .store(let path, let signer):
      // Read anew each time: who signs may be another by now.
      let signer = try signer.map { try CertifierIdentity(contentsOf: $0) }
      let store = try ImageStore.writing(path, orNew: true)
      let recording = ImageRecording(
        of: memory, contents, host: request.host, rounds: Self.rounds, identity: identity)
      let image = try recording.run(into: store, signer: signer, progress: goesOn).image
      if settings.keep > 0 {
        let own = try store.images().images.filter { $0.host == request.host }
        // That an older one stays is no reason to lose the new one.
        if own.count > settings.keep {
          do { _ = try store.prune(Array(own.dropLast(settings.keep))) } catch {
            log.warning("older images of \(request.host) are not removed: \(error)")
          }
        }
      }
      return Taken(name: "\(image.id)", stored: image.counts.stored, unread: image.counts.unread)
    case .folder(let path, let recipients):
      let acquisition = Acquisition(of: memory, contents, as: .elf, rounds: Self.rounds, identity: identity)
      return try encrypt(acquisition, of: request, into: path, to: recipients, keep: settings.keep, goesOn)
    }
  }

  /// Writes an image to a file of its own, which nobody can read but who has one of the recipients' keys.
  private func encrypt(
    _ acquisition: Acquisition, of request: ImageRequest, into folder: String, to recipients: [String], keep: Int,
    _ goesOn: (AcquisitionProgress) -> Bool
  ) throws -> Taken {
    guard mkdir(folder, 0o700) == 0 || errno == EEXIST else {
      throw Refusal(description: "\(folder) cannot be made: \(SystemCall.describe(errno))")
    }
    // No host's name has an @; in the order of their names images are in that of their times.
    let time = Moments.text(request.asked).filter { $0 != ":" && $0 != "-" }
    let name = "\(request.host)@\(time)-\(request.number).elf.age"
    let encryption = try Encryption(to: recipients, "\(folder)/\(name)")
    let summary: AcquisitionSummary
    do throws(AcquisitionError) {
      summary = try acquisition.run(to: .descriptor(encryption.input), progress: goesOn)
    } catch {
      encryption.abandon()
      throw error
    }
    try encryption.finish()
    var status = stat()
    _ = stat("\(folder)/\(name)", &status)
    if keep > 0, let names = try? FileManager.default.contentsOfDirectory(atPath: folder) {
      let own = names.filter { $0.hasPrefix("\(request.host)@") && $0.hasSuffix(".elf.age") }.sorted()
      for old in own.dropLast(keep) where unlink("\(folder)/\(old)") != 0 {
        log.warning("the older image \(folder)/\(old) is not removed: \(SystemCall.describe(errno))")
      }
    }
    return Taken(name: name, stored: UInt64(status.st_size), unread: summary.unreadCount)
  }

  /// How often an image is held against the memory, at most.
  private static let rounds = 8
}

extension FleetConfiguration.Images.Rule {
  /// Whether a finding is what an image is taken for: all that the rule says of findings has to hold.
  func takes(_ finding: OpenFinding) -> Bool {
    guard !findings.isEmpty || !kinds.isEmpty || !severities.isEmpty else { return false }
    return (findings.isEmpty || findings.contains(finding.detector))
      && (kinds.isEmpty || kinds.contains(finding.kind.rawValue))
      && (severities.isEmpty || severities.contains(finding.severity.rawValue))
  }

  /// What tells it from other rules, whatever their order.
  var words: String {
    [("states", states), ("findings", findings), ("kinds", kinds), ("severities", severities)]
      .filter { !$0.1.isEmpty }.map { "\($0.0) \($0.1.sorted().joined(separator: ","))" }.joined(separator: "; ")
  }
}
