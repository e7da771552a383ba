import ArgumentParser
import Hosts
import ImageStore
import KernelViews
import Links
import Memory
import Output
import Remote
import Synchronization
import ToolOptions

/// What commands that need a live host share.
enum HostOptions {
  static let urlHelp = ArgumentHelp(
    "The live host, as grassd printed it: \(LinkKinds.forms).", valueName: "url")

  /// Connects, or says why not and exits.
  ///
  /// `slots` is how many requests are to be in flight at once; who stays long asks for one.
  static func connect(_ url: String, timeout: Double, slots: Int = 4) throws -> Session {
    do {
      return try session(url, timeout: timeout, slots: slots)
    } catch let error as HostsError {
      // A host that nothing leads to is one that cannot be reached.
      writeNote("\(error)")
      throw ExitStatus.unreachable
    } catch {
      return try reporting { throw error }
    }
  }

  /// Connects, with the user's keys where the host asks for some.
  static func session(_ url: String, timeout: Double, slots: Int = 4) throws -> Session {
    let destination = try destination(url)
    let address = try LinkAddress(destination.address)
    let trust = try HostTrust(destination, address)
    do {
      return try Session(to: address, slots: slots, timeout: .seconds(timeout), keys: trust.keys())
    } catch let error as SessionError {
      guard case .untrusted = error.reason, try trust.asks() else { throw error }
    }
    return try Session(
      to: address, slots: slots, timeout: .seconds(timeout), keys: HostTrust(destination, address).keys())
  }

  /// What an address or a name of the user's configuration leads to, and on standard error what of that file does not count.
  ///
  /// - Throws: `HostsError`.
  static func destination(_ url: String) throws -> HostDestination {
    let configuration = try Configuration.standard()
    for problem in configuration.problems { writeNote("\(problem)") }
    return try configuration.destination(url)
  }
}

/// Where the memory to look at comes from: shared by all commands that look into it.
struct SourceOptions: ParsableArguments {
  @Option(help: HostOptions.urlHelp)
  var host: String?

  @Option(help: ArgumentHelp("A memory image, a guest's RAM file, or STORE#IMAGE.", valueName: "file"))
  var memory: String?

  @Option(help: "Seconds to wait for an answer of the host before giving up.")
  var timeout: Double = 5

  @OptionGroup var known: KnownOptions

  func validate() throws {
    if (host == nil) == (memory == nil) {
      throw ValidationError("Give either --host URL or --memory FILE: where is the memory to look at?")
    }
    if !(timeout > 0 && timeout < 86400) { throw ValidationError("--timeout takes seconds, more than 0.") }
  }

  /// Opens the kernel and says what its users ought to know, or says why not and exits.
  func openKernel(slots: Int = 4) throws -> Kernel {
    let kernel = try findKernel(slots: slots)
    for note in kernel.notes { writeNote(note) }
    return kernel
  }

  private func findKernel(slots: Int) throws -> Kernel {
    if let host {
      let session = try HostOptions.connect(host, timeout: timeout, slots: slots)
      return try reporting {
        let memory = try RemoteMemory(session: session)
        return try Kernel(memory: memory, hint: memory.kernelHint, known: known.folder)
      }
    }
    return try reporting { try Kernel.open(try OpenedImages.open(memory ?? ""), known: known.folder) }
  }
}

extension SourceOptions {
  /// Opens the memory, and the kernel in it where one is found: an image is worth having also where none is.
  ///
  /// Says what its users ought to know, or why there is no memory, and exits.
  func openMemory() throws -> (memory: any PhysicalMemory, kernel: Kernel?) {
    func withoutKernel(_ memory: any PhysicalMemory, _ error: any Error) -> (any PhysicalMemory, Kernel?) {
      writeNote("\(error)")
      writeNote("the image will hold the memory, and nothing that says what kernel is in it")
      return (memory, nil)
    }
    func noted(_ kernel: Kernel) -> (any PhysicalMemory, Kernel?) {
      for note in kernel.notes { writeNote(note) }
      return (kernel.memory, kernel)
    }
    if let host {
      let session = try HostOptions.connect(host, timeout: timeout)
      let memory = try reporting { try RemoteMemory(session: session) }
      do throws(KernelError) {
        return noted(try Kernel(memory: memory, hint: memory.kernelHint, known: known.folder))
      } catch {
        if error.isOfSource { try reporting { throw error } }
        return withoutKernel(memory, error)
      }
    }
    let layouts = try reporting { try OpenedImages.open(memory ?? "") }
    do throws(KernelError) {
      return noted(try Kernel.open(layouts, known: known.folder))
    } catch {
      // The last one takes the file as it is.
      guard let memory = layouts.last else { return try reporting { throw error } }
      return withoutKernel(memory, error)
    }
  }
}

/// The images that this process looks at.
enum OpenedImages {
  private static let moved = Mutex<[MovedFrames]>([])

  /// The ways in which a file can be read as memory, the most likely first; or the one way of an image in a store, `STORE#IMAGE`.
  static func open(_ path: String) throws -> [any PhysicalMemory] {
    // A file may have such a name, too.
    if let mark = path.lastIndex(of: "#"), ImageStore.isStore(String(path[..<mark])) {
      let store = try ImageStore(String(path[..<mark]))
      return noted([store.memory(of: try store.image(String(path[path.index(after: mark)...])))])
    }
    return noted(try MemoryImage.openReadable(path))
  }

  private static func noted(_ ways: [any PhysicalMemory]) -> [any PhysicalMemory] {
    moved.withLock { $0 += ways.compactMap(\.movedFrames) }
    return ways
  }

  /// Says on standard error which frames were looked at whose contents are of another time than the rest of their image.
  static func sayWhatMoved() {
    let found = Set(moved.withLock { $0.flatMap(\.readFrames) }).sorted()
    guard !found.isEmpty else { return }
    let some = found.prefix(4).map { "\(PhysicalAddress($0 * 4096))" }.joined(separator: ", ")
    writeNote(
      "\(found.count) of the pages that this looked at went on changing while the image was taken: what it says of them may not fit "
        + "the rest, and is worth a second look (\(some)\(found.count > 4 ? ", …" : ""))")
  }
}

/// Runs `body`, and turns its failure into a message on standard error and an exit status.
func reporting<T>(_ body: () throws -> T) throws -> T {
  do {
    return try body()
  } catch {
    writeNote("\(error)")
    switch error {
    case let error as KernelError: throw error.isOfSource ? ExitStatus.unreachable : ExitStatus.unreadable
    case is SessionError, is LinkError: throw ExitStatus.unreachable
    default: throw ExitStatus.unreadable
    }
  }
}

extension KernelError {
  /// Whether the memory itself could not be reached, whatever it holds.
  var isOfSource: Bool {
    if case .memory(let fault) = cause, case .sourceFailed = fault.reason { true } else { false }
  }
}

/// How a result is printed.
struct OutputOptions: ParsableArguments {
  @Flag(help: "Print a JSON array for programs.")
  var json = false
}
