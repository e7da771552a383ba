import ArgumentParser
import KernelFile
import LinuxKernel
import Memory
import Output
import ToolOptions
import Views

/// Lists, vouches for, and forgets kept builds.
struct BuildsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "builds", abstract: "Shows whose symbols and types are kept, and vouches for builds.",
    discussion: """
      Symbols and types of a kernel that was proven are kept, and serve again where they are the memory's own. Those of \
      a build that was vouched for also stand in on every host that runs it, where the host's own are damaged or were \
      changed to blind GRASS.
      """,
    subcommands: [List.self, Approve.self, Forget.self], defaultSubcommand: List.self)

  /// The folder, or a message where there is none.
  private static func folder(_ known: KnownOptions) throws -> BuildFolder {
    guard let folder = known.folder else { throw ValidationError("There is no folder of builds: give --known DIR.") }
    return folder
  }

  private static func show(_ entries: [BuildFolder.Entry], asJSON: Bool) {
    if asJSON {
      return writeOutput(
        JSON.lines(
          entries.map { entry in
            JSON(
              ViewValue.object([
                .init("release", entry.release), .init("build_id", entry.buildID), .init("digest", entry.digest),
                .init("bytes", entry.size), .init("approved", entry.isApproved), .init("boots", entry.boots),
              ]))
          }))
    }
    var table = Table([
      ("RELEASE", .left), ("BUILD ID", .left), ("DIGEST", .left), ("MiB", .right), ("BOOTS", .right),
      ("APPROVED", .left),
    ])
    for entry in entries {
      table.add([
        entry.release, entry.buildID.isEmpty ? "-" : String(entry.buildID.prefix(12)), String(entry.digest.prefix(12)),
        "\(entry.size >> 20)", "\(entry.boots)", entry.isApproved ? "yes" : "",
      ])
    }
    writeOutput(table.text())
  }

  struct List: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Lists the builds that are kept.",
      discussion: "BOOTS: of how many boots that are remembered the build was proven. Exits with 1 where none is kept.")
    @OptionGroup var known: KnownOptions
    @Flag(help: "Print a JSON array for programs.") var json = false

    func run() throws {
      let entries = try BuildsCommand.folder(known).entries()
      BuildsCommand.show(entries, asJSON: json)
      if entries.isEmpty { throw ExitStatus.partial }
    }
  }

  struct Approve: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Vouches for a build.",
      discussion: """
        Takes a build that is kept, by the beginning of its digest, or reads one out of a vendor's kernel \
        (--kernel /boot/vmlinuz-…, a bzImage or a vmlinux) or out of the memory of a host that is trusted (--memory FILE).
        """)
    @OptionGroup var known: KnownOptions
    @Argument(help: "The beginning of a kept build's digest.") var digest: String?
    @Option(help: ArgumentHelp("The vendor's kernel: vmlinuz or vmlinux.", valueName: "file")) var kernel: String?
    @Option(help: ArgumentHelp("A memory image of a host that is trusted.", valueName: "file")) var memory: String?
    @Flag(help: "Print a JSON array for programs.") var json = false

    func validate() throws {
      guard [digest, kernel, memory].count(where: { $0 != nil }) == 1 else {
        throw ValidationError("Give a digest, --kernel FILE or --memory FILE: which build is to be vouched for?")
      }
    }

    func run() throws {
      let folder = try BuildsCommand.folder(known)
      let entry = try reporting {
        if let kernel { return try folder.approve([try KernelFile.open(kernel)]) }
        if let memory { return try folder.approve(try MemoryImage.openReadable(memory)) }
        return try folder.approve(digest: digest ?? "")
      }
      BuildsCommand.show([entry], asJSON: json)
    }
  }

  struct Forget: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Removes a build, and that it was vouched for.",
      discussion: "Where the build is proven again, it is kept again, but not vouched for.")
    @OptionGroup var known: KnownOptions
    @Argument(help: "The beginning of the build's digest.") var digest: String
    @Flag(help: "Print a JSON array for programs.") var json = false

    func run() throws {
      let folder = try BuildsCommand.folder(known)
      BuildsCommand.show([try reporting { try folder.forget(digest: digest) }], asJSON: json)
    }
  }
}
