package import Devices
package import LinuxKernel
package import Memory

/// Keeps a device with the kernel of the watched host: finds it, sees when it is gone, and finds what comes after it.
///
/// The host may be booting yet, and may reboot, also into another kernel. So as long as there is no kernel it is looked for
/// again and again; and a few times a second it is asked whether it is still the one that was proven (``BootIdentity``). Each
/// kernel found is told to the device: the layout of its memory, where it lies, and monitors that are bound to it.
package final class Watch {
  /// What happened, for those who read the log.
  package enum Event: Equatable {
    case kernelFound(release: String, place: PhysicalAddress)
    /// Where the file's way of being physical memory was decided anew.
    case layout(String)
    case kernelLost(release: String)
    case monitorsLoaded([String])
    /// Those at work stay.
    case monitorsFailed(String)
    /// There is no kernel to bind them to, or no monitors were given.
    case nothingToReload
    case memoryCut
    /// What tells this boot from others, though it is still this one: somebody hides it.
    case identityAltered([String])
    /// What whoever uses the kernel found ought to know.
    case note(String)
  }

  /// The kernel that the device is bound to; nil as long as none is found.
  package private(set) var kernel: Kernel?
  /// What the device reads: until a kernel tells, the most likely layout.
  package private(set) var memory: any PhysicalMemory

  private let layouts: [any PhysicalMemory]
  private let known: BuildFolder?
  private let monitors: any MonitorSource
  private let report: (Event) -> Void
  private var device: (any Device)?
  private var identity: BootIdentity?
  private var hint: PhysicalAddress?
  private var nextSearch = ContinuousClock.now
  private var nextThoroughSearch = ContinuousClock.now
  private var isCut = false
  /// What of the kernel's identity was altered by now.
  private var altered: Set<String> = []
  /// When the kernel was seen to tick last.
  private var lastTick: ContinuousClock.Instant?
  private var rival: Rival?
  /// Rivals that were not seen to tick.
  private var still: [FoundKernel] = []

  /// How long after a look the next one is due.
  package static let interval = Duration.milliseconds(250)
  /// How long after a search of notes in vain the next one follows: as long as it took, within these bounds.
  private static let rest = Duration.milliseconds(500)...Duration.seconds(2)
  /// How long after a search that went all ways the next such one follows: four times what it took, within these bounds.
  private static let thoroughRest = Duration.seconds(5)...Duration.seconds(30)
  /// So long a kernel may be seen not to tick before another one is looked for.
  private static let stillTime = Duration.milliseconds(1500)
  /// So long a host may take to boot before a kernel without a note is looked for.
  private static let bootTime = Duration.seconds(10)

  /// Watches a memory that may be laid out in several ways.
  ///
  /// `layouts` has the most likely first, and one at least; `known` are builds that were proven before.
  package init(
    layouts: [any PhysicalMemory], known: BuildFolder? = nil, monitors: any MonitorSource,
    report: @escaping (Event) -> Void
  ) {
    precondition(!layouts.isEmpty, "no memory to watch")
    self.layouts = layouts
    self.known = known
    self.monitors = monitors
    self.report = report
    memory = layouts[0]
  }

  /// Looks for a kernel before there is a device.
  ///
  /// Returns whether there is one.
  @discardableResult
  package func begin() -> Bool { search(at: .now) }

  /// Takes the device, which reads ``memory`` and, where it has one, was started with the program for ``kernel``.
  ///
  /// `program` has the names of the monitors that it was started with, and is nil where it has none yet.
  package func attach(_ device: any Device, program: [String]?) {
    self.device = device
    guard let kernel else { return }
    device.setKernelHint(kernel.found.coreInfoAddress)
    report(.kernelFound(release: kernel.release, place: kernel.found.coreInfoAddress))
    for note in kernel.notes { report(.note(note)) }
    if let program {
      report(.monitorsLoaded(program))
    } else {
      loadMonitors(isFresh: true)
    }
  }

  /// Does what is due.
  package func look(at now: ContinuousClock.Instant = .now) {
    guard !isCut else { return }
    if let file = memory as? FileMemory, !file.isWhole {
      isCut = true
      return report(.memoryCut)
    }
    if kernel != nil, identity?.holds(in: memory) == false { lose(at: now) }
    if let names = identity?.altered, !altered.isSuperset(of: names) {
      altered.formUnion(names)
      report(.identityAltered(names))
    }
    if let kernel { challenge(kernel, at: now) }
    if kernel == nil, now >= nextSearch, search(at: now) { bind() }
  }

  /// Takes the monitors as their files are now.
  ///
  /// Whatever is wrong with them, those at work stay.
  package func reload() {
    guard kernel != nil, !monitors.isEmpty else { return report(.nothingToReload) }
    loadMonitors(isFresh: true)
  }

  // MARK: Kernels

  private func search(at now: ContinuousClock.Instant) -> Bool {
    let start = ContinuousClock.now
    let isThorough = now >= nextThoroughSearch
    let found = try? KernelFinder(layouts: layouts, known: known).find(hint: hint, thoroughly: isThorough)
    let took = ContinuousClock.now - start
    func after(_ rest: Duration, within bounds: ClosedRange<Duration>) -> ContinuousClock.Instant {
      now + took + min(max(rest, bounds.lowerBound), bounds.upperBound)
    }
    nextSearch = after(took, within: Self.rest)
    if isThorough { nextThoroughSearch = after(took * 4, within: Self.thoroughRest) }
    guard let found else { return false }
    take(found)
    return true
  }

  private func take(_ found: ProvenKernel) {
    kernel = Kernel(found)
    hint = found.found.coreInfoAddress
    identity = BootIdentity(of: found)
    altered = []
    lastTick = nil
    rival = nil
    still = []
  }

  /// Looks for another kernel where this one does not tick: it may be gone and lie there whole.
  ///
  /// One that sleeps or stands still is not given up for one that does not tick either.
  private func challenge(_ kernel: Kernel, at now: ContinuousClock.Instant) {
    guard identity?.hasTicked == false, let lastTick else {
      (lastTick, rival, still) = (now, nil, [])
      return
    }
    if let known = rival {
      let holds = known.identity.holds(in: known.kernel.memory)
      if holds, known.identity.hasTicked == true {
        lose(at: now)
        take(known.kernel)
        return bind()
      }
      if now - known.since >= Self.stillTime || !holds {
        still.append(known.kernel.found)
        rival = nil
      }
    }
    guard rival == nil, now - lastTick >= Self.stillTime, now >= nextSearch else { return }
    let start = ContinuousClock.now
    let finder = KernelFinder(layouts: layouts, known: known)
    rival = (try? finder.find(thoroughly: false, besides: [kernel.found] + still)).map { Rival($0, since: now) }
    let took = ContinuousClock.now - start
    nextSearch = now + took + min(max(took * 4, Self.rest.lowerBound), Self.thoroughRest.upperBound)
  }

  /// Another kernel than the one that the device is bound to, which may have taken its place.
  private final class Rival {
    let kernel: ProvenKernel
    let since: ContinuousClock.Instant
    var identity: BootIdentity

    init(_ kernel: ProvenKernel, since: ContinuousClock.Instant) {
      self.kernel = kernel
      self.since = since
      identity = BootIdentity(of: kernel)
    }
  }

  private func lose(at now: ContinuousClock.Instant) {
    guard let lost = kernel else { return }
    // The next one comes with a note, when it has booted; what has none is looked for when it must be there.
    nextThoroughSearch = now + Self.bootTime
    kernel = nil
    identity = nil
    device?.setKernelHint(PhysicalAddress(0))
    // Bound to a kernel that is gone, they would read nonsense.
    device?.withdrawMonitors()
    report(.kernelLost(release: lost.release))
  }

  /// Tells the device of a kernel that was found under it.
  private func bind() {
    guard let kernel, let device else { return }
    if let file = kernel.memory as? FileMemory, file !== memory as? FileMemory {
      device.setSegments(file.mappedSegments)
      report(.layout(file.format))
    }
    memory = kernel.memory
    device.setKernelHint(kernel.found.coreInfoAddress)
    report(.kernelFound(release: kernel.release, place: kernel.found.coreInfoAddress))
    for note in kernel.notes { report(.note(note)) }
    loadMonitors(isFresh: false)
  }

  private func loadMonitors(isFresh: Bool) {
    guard let kernel, let device, !monitors.isEmpty else { return }
    do {
      let program = try monitors.program(for: kernel, isFresh: isFresh)
      try device.load(program, for: KernelMapping(kernel.addressSpace, slide: kernel.found.slide))
      report(.monitorsLoaded(program.names))
    } catch {
      report(.monitorsFailed("\(error)"))
    }
  }
}
