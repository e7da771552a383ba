import Binding
public import KernelViews
import Memory

/// Programs load a library before all others, which then answers in place of those.
public struct PreloadedLibrary: Detector {
  public static let name = "preloaded-library"
  public static let kind = Finding.Kind.attack
  public static let summary = "Programs are made to load a library before all others."
  public static let rule = """
    LD_PRELOAD or LD_AUDIT in the environment of a process names a library (a notice where it lies where a distribution puts \
    libraries, a warning elsewhere); /etc/ld.so.preload of some root directory is there and not empty.
    """
  public static let looksLike = """
    Allocators, fakeroot and profilers are preloaded, too: they lie below /usr, /lib or /opt, and are a notice. Kernels keep \
    the name /etc/ld.so.preload in their cache also where there is no such file: it has no inode then.
    """
  public static let remedy = """
    See what the library is and which package it belongs to; look at processes by another way than by programs of that host, \
    which load it, too.
    """
  public static let techniques = ["T1574.006"]
  public static let baseline = Finding.Baseline.threshold

  private static let variables = ["LD_PRELOAD=", "LD_AUDIT="]
  private static let usual = ["/usr/", "/lib/", "/lib64/", "/opt/", "/nix/store/", "/snap/"]

  private struct Reader: KernelReader {
    static let subject = "the root directories of processes"

    struct Task: KernelShape {
      static let type = "task_struct"
      let place = Field<VirtualAddress>("fs")
    }

    struct Place: KernelShape {
      static let type = "fs_struct"
      let root = Field<VirtualAddress>("root.dentry")
    }

    let task: Bound<Task>
    let place: Bound<Place>

    init(kernel: Kernel) throws { (task, place) = try kernel.types.bind() }
  }

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let tasks = try look.marks().marks.map(\.task).filter { $0.isLeader && !$0.isKernelThread }
    var result = try files(look, tasks)
    let details = try look.kernel.details(of: tasks, .environment)
    result.faults += details.faults
    for (task, detail) in zip(tasks, details.details) {
      for text in detail.environment.map(\.printable) {
        guard let variable = variables.first(where: { text.hasPrefix($0) }) else { continue }
        let libraries = text.dropFirst(variable.count).split { $0 == ":" || $0 == " " }
        guard !libraries.isEmpty else { continue }
        // A name without a directory is looked for where libraries are.
        let strange = libraries.filter { library in
          library.contains("/") && (!usual.contains { library.hasPrefix($0) } || library.contains("/../"))
        }
        let (severity, named) = strange.isEmpty ? (Finding.Severity.notice, libraries[0]) : (.warning, strange[0])
        result.sightings.append(
          Sighting(
            [.task(task)], severity, strange.isEmpty ? .hint : .strong,
            "\(task.comm.printable) (\(task.tid)) was started with \(named) before all other libraries",
            evidence: [.init("its environment", at: task.address, seen: text, expected: "no \(variable.dropLast())")]))
      }
    }
    return result
  }

  /// The file that holds for all programs below a root directory.
  private static func files(_ look: Look, _ tasks: [KernelTask]) throws(KernelError) -> Sightings {
    let kernel = look.kernel
    let space = kernel.addressSpace
    let reader = try kernel.reader(Reader.self)
    let entries = try kernel.reader(DirectoryEntries.self)
    var result = Sightings()
    let places = space.read(reader.task, at: tasks.map(\.address)).pointers(\.place).filter { $0.rawValue != 0 }
    let roots = Set(space.read(reader.place, at: places).pointers(\.root).filter { $0.rawValue != 0 })
    for root in roots.sorted() {
      result.faults.keep { () throws(MemoryFault) in
        guard let directory = try entries.entry(Array("etc".utf8), in: root, space),
          let file = try entries.entry(Array("ld.so.preload".utf8), in: directory.dentry, space), file.size > 0
        else { return }
        result.sightings.append(
          Sighting(
            [.file(device: 0, inode: file.number, name: Array("/etc/ld.so.preload".utf8))], .warning, .strong,
            "/etc/ld.so.preload makes every program load a library before all others",
            evidence: [.init("its size", at: file.inode, seen: "\(file.size) bytes", expected: "no such file")],
            persists: [file.inode.rawValue]))
      }
    }
    return result
  }
}
