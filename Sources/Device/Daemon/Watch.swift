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
  }

  /// The kernel that the device is bound to; nil as long as none is found.
  package private(set) var kernel: Kernel?
  /// What the device reads: until a kernel tells, the most likely layout.
  package private(set) var memory: any PhysicalMemory

  private let layouts: [any PhysicalMemory]
  private let monitors: any MonitorSource
  private let report: (Event) -> Void
  private var device: (any Device)?
  private var identity: BootIdentity?
  private var hint: PhysicalAddress?
  private var nextSearch = ContinuousClock.now
  private var isCut = false

  /// How long after a look the next one is due.
  package static let interval = Duration.milliseconds(250)
  /// A search in vain takes no more than a fifth of a processor's time, and comes once in half a minute at least.
  private static let restPerSearch = 4
  private static let shortestRest = Duration.seconds(1)
  private static let longestRest = Duration.seconds(30)

  /// Watches a memory that may be laid out in several ways: `layouts`, the most likely first, of which there is one at least.
  package init(
    layouts: [any PhysicalMemory], monitors: any MonitorSource, report: @escaping (Event) -> Void
  ) {
    precondition(!layouts.isEmpty, "no memory to watch")
    self.layouts = layouts
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
    if kernel != nil, identity?.holds(in: memory) == false { lose() }
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
    let found = try? Kernel.open(layouts, hint: hint)
    let rest = (ContinuousClock.now - start) * Self.restPerSearch
    nextSearch = now + (ContinuousClock.now - start) + min(max(rest, Self.shortestRest), Self.longestRest)
    guard let found else { return false }
    kernel = found
    hint = found.found.coreInfoAddress
    identity = BootIdentity(of: found)
    return true
  }

  private func lose() {
    guard let lost = kernel else { return }
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
