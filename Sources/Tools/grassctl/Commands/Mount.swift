import ArgumentParser
import KernelViews
import Output

struct Mount: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Lists the mounts that a process sees.",
    discussion: """
      The keys in JSON are the fields of /proc/PID/mountinfo. Of a file system's own options (size=, mode=) only those are \
      shown that all file systems have.
      """)

  @OptionGroup var source: SourceOptions
  @OptionGroup var output: OutputOptions

  @Option(name: .shortAndLong, help: "The process whose mounts are listed.")
  var pid: Int32 = 1

  func run() throws {
    let kernel = try source.openKernel()
    let table = try reporting { try kernel.mounts(ofProcess: pid) }
    if output.json {
      writeOutput(JSON.lines(table.mounts.map(Self.json)))
    } else {
      var text = Table([
        ("ID", .right), ("DEVICE", .left), ("TARGET", .left), ("SOURCE", .left), ("TYPE", .left), ("OPTIONS", .left),
      ])
      for mount in table.mounts {
        let root = mount.root == [UInt8(ascii: "/")] ? "" : "[\(mount.root.printable)]"
        let superOptions = mount.superOptions.filter { !mount.options.contains($0) && $0 != "rw" }
        text.add([
          "\(mount.id)", "\(mount.major):\(mount.minor)", mount.mountPoint.printable, mount.source.printable + root,
          mount.fileSystem.printable, (mount.options + superOptions + Self.optional(mount)).joined(separator: ","),
        ])
      }
      writeOutput(text.text())
    }
    try reportFaults(table.faults)
  }

  private static func optional(_ mount: MountPoint) -> [String] {
    [
      mount.sharedGroup.map { "shared:\($0)" }, mount.masterGroup.map { "master:\($0)" },
      mount.propagatesFrom.map { "propagate_from:\($0)" }, mount.isUnbindable ? "unbindable" : nil,
    ].compactMap { $0 }
  }

  private static func json(_ mount: MountPoint) -> JSON {
    .object([
      ("id", .integer(mount.id)), ("parent", .integer(mount.parentID)),
      ("device", .string("\(mount.major):\(mount.minor)")), ("root", .bytes(mount.root)),
      ("target", .bytes(mount.mountPoint)), ("options", .array(mount.options.map { .string($0) })),
      ("propagation", .array(optional(mount).map { .string($0) })), ("fstype", .bytes(mount.fileSystem)),
      ("source", .bytes(mount.source)), ("super_options", .array(mount.superOptions.map { .string($0) })),
    ])
  }
}
