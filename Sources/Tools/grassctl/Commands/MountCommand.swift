import ArgumentParser
import Detection
import Glibc
import KernelViews
import LinuxKernel
import Memory
import Output
import Shadow
import ShadowMount

/// Lists mounts, or mounts the shadow: as mount(8), which does the one without arguments and the other with some.
struct MountCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: MountView.name,
    abstract: "Lists the mounts that a process sees; with a directory, mounts the host's /proc and views there.",
    discussion: """
      \(MountView.discussion)

      With DIR, mounts there what the host's kernel shows, as files that can only be read: proc has the host's /proc in the \
      kernel's own formats, sys what tools ask of its /sys, dev/kmsg its log, views has each view as text and as JSON, mem the \
      physical memory, and vmcore the same as an ELF core for drgn and crash. Tools see it where it is \
      mounted over their /proc: unshare -m sh -c 'mount --bind DIR/proc /proc && ps aux'. A file is made when it is opened; \
      what cannot be read of the host is an input/output error, never an empty file. Prints "ready" once it is mounted, and \
      unmounts when it is ended.
      """)

  @Argument(help: ArgumentHelp("Where to mount the host's /proc and views: an empty directory.", valueName: "dir"))
  var directory: String?

  @OptionGroup var source: SourceOptions
  @OptionGroup var arguments: ViewArguments<MountView>
  @OptionGroup(title: "Rows and columns") var rows: RowOptions

  func run() throws {
    guard let directory else { return try ViewCommand<MountView>.show(source, arguments, rows) }
    try serve(at: directory)
  }

  private func serve(at directory: String) throws {
    // Before there are other threads, which take over what is blocked.
    var signals = sigset_t()
    sigemptyset(&signals)
    for number in [SIGINT, SIGTERM, SIGHUP] { sigaddset(&signals, number) }
    pthread_sigmask(SIG_BLOCK, &signals, nil)
    signal(SIGPIPE, SIG_IGN)

    let kernel = try source.openKernel()
    let mount = try reporting {
      let root = ShadowNode.directory([
        "proc": try ProcTree.directory(of: kernel, hiddenModules: kernel.hiddenForShadow),
        "views": ShadowViews.directory(of: kernel),
        "sys": SystemTree.directory(of: kernel), "dev": .directory(["kmsg": LogFile.node(of: kernel)]),
        "mem": .memory(kernel.memory), "vmcore": CoreFile.node(of: kernel),
      ])
      return try ShadowMount(ShadowTree(root: root), at: directory, source: source.host ?? source.memory ?? "grass")
    }
    writeOutput("ready\n")
    while mount.isServing {
      var time = timespec(tv_sec: 0, tv_nsec: 200_000_000)
      if sigtimedwait(&signals, nil, &time) > 0 { break }
    }
    mount.end()
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
