import ArgumentParser
import Detection
import Glibc
import KernelViews
import LinuxKernel
import Memory
import Output
import Remote
import Shadow
import ShadowMount
import ToolOptions

/// Lists mounts, or mounts the shadow: as mount(8), which does the one without arguments and the other with some.
struct MountCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: MountView.name,
    abstract: "Lists the mounts that a process sees; with a directory, mounts the host's /proc and views there.",
    discussion: """
      \(MountView.discussion)

      With DIR, mounts there what the host's kernel shows, as files that can only be read: proc has the host's /proc in the \
      kernel's own formats, sys what tools ask of its /sys, root its files as far as its memory has them, dev/kmsg its log, views has each view as text and as JSON, mem the \
      physical memory, and vmcore the same as an ELF core for drgn and crash. Tools see it where it is \
      mounted over their /proc: unshare -m sh -c 'mount --bind DIR/proc /proc && ps aux'. A file is made when it is opened; \
      what cannot be read of the host is an input/output error, never an empty file. Prints "ready" once it is mounted, and \
      unmounts when it is ended.

      --host and --memory may be given several times: then each host has a directory of its own, by its name or address. One that \
      cannot be reached is an input/output error, is said on standard error, and is tried again.
      """)

  @Argument(help: ArgumentHelp("Where to mount the host's /proc and views: an empty directory.", valueName: "dir"))
  var directory: String?

  @OptionGroup var source: MountSources
  @OptionGroup var arguments: ViewArguments<MountView>
  @OptionGroup(title: "Rows and columns") var rows: RowOptions

  func run() throws {
    guard let directory else { return try ViewCommand<MountView>.show(source.only, arguments, rows) }
    try serve(at: directory)
  }

  private func serve(at directory: String) throws {
    // Before there are other threads, which take over what is blocked.
    var signals = sigset_t()
    sigemptyset(&signals)
    for number in [SIGINT, SIGTERM, SIGHUP] { sigaddset(&signals, number) }
    pthread_sigmask(SIG_BLOCK, &signals, nil)
    signal(SIGPIPE, SIG_IGN)

    let mount = try source.count == 1 ? mountOne(at: directory) : mountAll(at: directory)
    writeOutput("ready\n")
    while mount.isServing {
      var time = timespec(tv_sec: 0, tv_nsec: 200_000_000)
      if sigtimedwait(&signals, nil, &time) > 0 { break }
    }
    mount.end()
  }

  private func mountOne(at directory: String) throws -> ShadowMount {
    let kernel = try source.only.openKernel()
    return try reporting {
      try ShadowMount(
        ShadowTree(root: Self.root(of: kernel)), at: directory,
        source: source.host.first ?? source.memory.first ?? "grass")
    }
  }

  /// Mounts each host below its name.
  ///
  /// Those that cannot be opened now are tried again, and do not keep the others.
  private func mountAll(at directory: String) throws -> ShadowMount {
    let (timeout, known) = (source.timeout, source.known.folder)
    let live = source.host.map { url in
      (
        name: MountSources.name(ofHost: url),
        open: { @Sendable () throws -> ShadowNode in
          // One connection that many readers share.
          let memory = try RemoteMemory(session: HostOptions.session(url, timeout: timeout))
          return try Self.root(of: Kernel(memory: memory, hint: memory.kernelHint, known: known))
        }
      )
    }
    let images = source.memory.map { path in
      (
        name: path.split(separator: "/").last.map(String.init) ?? path,
        open: { @Sendable () throws -> ShadowNode in
          try Self.root(of: Kernel.open(OpenedImages.open(path), known: known))
        }
      )
    }
    let hosts = MountedHosts(live + images)
    hosts.start(patience: .seconds(timeout + 5))
    return try reporting {
      try ShadowMount(
        ShadowTree(root: hosts.root, report: hosts.report), at: directory, source: "grass",
        // So that those that wait for a host which hangs leave some for the others.
        workers: min(64, ShadowMount.workers * source.count))
    }
  }

  private static func root(of kernel: Kernel) throws -> ShadowNode {
    .directory([
      "proc": try ProcTree.directory(of: kernel, hiddenModules: kernel.hiddenForShadow),
      "views": ShadowViews.directory(of: kernel),
      "sys": SystemTree.directory(of: kernel), "dev": .directory(["kmsg": LogFile.node(of: kernel)]),
      "root": try RootTree.directory(of: kernel), "mem": .memory(kernel.memory), "vmcore": CoreFile.node(of: kernel),
    ])
  }
}

/// Where the memories to look at come from: one as other commands have it, or several to be mounted.
struct MountSources: ParsableArguments {
  @Option(help: HostOptions.urlHelp)
  var host: [String] = []

  @Option(help: ArgumentHelp("A memory image, a guest's RAM file, or STORE#IMAGE.", valueName: "file"))
  var memory: [String] = []

  @Option(help: "Seconds to wait for an answer of the host before giving up.")
  var timeout: Double = 5

  @OptionGroup var known: KnownOptions

  var count: Int { host.count + memory.count }

  func validate() throws {
    if count == 0 { throw ValidationError("Give --host URL or --memory FILE: where is the memory to look at?") }
    if !(timeout > 0 && timeout < 86400) { throw ValidationError("--timeout takes seconds, more than 0.") }
  }

  /// The only one.
  var only: SourceOptions {
    get throws {
      guard count == 1 else {
        throw ValidationError("Give --host URL or --memory FILE once, unless it is to be mounted.")
      }
      var source = SourceOptions()
      (source.host, source.memory, source.timeout, source.known) = (host.first, memory.first, timeout, known)
      return source
    }
  }

  /// An address without what says how to get there: `tcp://10.0.0.7:7070` is `10.0.0.7:7070`.
  static func name(ofHost url: String) -> String {
    guard let mark = url.firstRange(of: "://") else { return url }
    return String(url[mark.upperBound...])
  }
}

extension Kernel {
  /// The modules that hide, for the list of modules; that they could not be looked for is for `check` to say.
  var hiddenForShadow: @Sendable () -> [VirtualAddress] { { [self] in (try? hiddenModules()) ?? [] } }
}

/// Each view as two files: what its command prints, as text and as JSON.
enum ShadowViews {
  static func directory(of kernel: Kernel) -> ShadowNode {
    // Those that have to be told what to look at, and those that read all of the memory, are left to their commands.
    let views = KernelViews.all.filter { !$0.readsAllMemory && !$0.needsOptions }
    return .directory(named: views.flatMap { $0.files(of: kernel) })
  }
}

extension KernelView {
  /// Whether it shows nothing without being told what.
  fileprivate static var needsOptions: Bool { Options().all.contains(where: \.isRequired) }

  fileprivate static func files(of kernel: Kernel) -> [(String, ShadowNode)] {
    [
      (name + ".txt", .file { Array(try ViewFormat().text(rows(of: kernel), of: self, Options()).utf8) }),
      (name + ".json", .file { try ViewFormat().json(rows(of: kernel), of: self, Options()) }),
    ]
  }

  /// The rows, where none is missing.
  private static func rows(of kernel: Kernel) throws -> [Row] {
    let found = try rows(of: kernel, Options())
    guard !found.isPartial else {
      throw ShadowError.unreadable(found.shortcomings.first ?? remark(on: found.faults))
    }
    return found.rows
  }
}
