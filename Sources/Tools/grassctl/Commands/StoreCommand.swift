import Acquisition
import ArgumentParser
import Glibc
import Hosts
import ImageStore
import Keys
import Memory
import Output
import Views

struct StoreCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "store", abstract: "Lists, checks, extracts and removes images that dump --into keeps.",
    discussion: """
      A store is a folder in which what images have in common is kept once. An image is named by the first digits of its ID, or \
      as newest; `--memory STORE#IMAGE` gives any other command what is in it.
      """,
    subcommands: [List.self, Verify.self, Extract.self, Prune.self])

  static let storeHelp = ArgumentHelp("The store's folder.", valueName: "store")
}

extension StoreCommand {
  struct List: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Lists the images in a store, the oldest first.",
      discussion: """
        SIZE is what memory the image has, MOVED how many of its pages went on changing while it was taken, so that they need not be of the \
        one instant of which all others are (- where nobody looked), READ what was read of the host for it, NEW by how much the store grew. A signature is \
        checked here, what is signed by verify.
        """)

    @Argument(help: storeHelp) var store: String
    @OptionGroup var output: OutputOptions

    func run() throws {
      let (images, problems) = try reporting { try ImageStore(store).images() }
      if output.json {
        writeOutput(JSON.lines(images.map(StoreCommand.object)))
      } else {
        var table = Table([
          ("IMAGE", .left), ("HOST", .left), ("KERNEL", .left), ("TAKEN", .left), ("SIZE", .right), ("MOVED", .right),
          ("READ", .right), ("NEW", .right), ("SIGNED BY", .left),
        ])
        for image in images {
          let signer = image.signer.map { $0.fingerprint + (image.isSignatureValid == true ? "" : " (BROKEN)") }
          table.add([
            image.id.short, image.host, image.contents.kernel?.release ?? "-", image.ended,
            ProgressMeter.size(Double(image.counts.memory)), image.consistency.map { "\($0.movedCount)" } ?? "-",
            ProgressMeter.size(Double(image.counts.read)), ProgressMeter.size(Double(image.counts.stored)),
            signer ?? "nobody",
          ])
        }
        writeOutput(table.text())
      }
      for problem in problems { writeNote("\(problem)") }
      if !problems.isEmpty || images.contains(where: { $0.isSignatureValid == false }) { throw ExitStatus.partial }
    }
  }

  /// An image in a line; what could steer a terminal is escaped, as a store may be anybody's.
  static func line(_ image: StoredImage) -> String {
    "\(image.id.short) \(Array(image.host.utf8).printable) \(Array(image.ended.utf8).printable)"
  }

  /// An image as programs read it.
  static func object(_ image: StoredImage) -> JSON {
    .object([
      ("id", .string("\(image.id)")), ("root", .string("\(image.root)")), ("host", .string(image.host)),
      ("identity", .string(image.identity)),
      ("kernel", image.contents.kernel.map { .string($0.release) } ?? .null), ("began", .string(image.began)),
      ("ended", .string(image.ended)), ("level", .integer(image.contents.level.rawValue)),
      ("instant", image.consistency.map { .string($0.time) } ?? .null),
      ("instant_pages", image.consistency.map { .unsigned($0.settled) } ?? .null),
      ("moved_pages", image.consistency.map { .unsigned($0.movedCount) } ?? .null),
      ("memory_bytes", .unsigned(image.counts.memory)), ("unread_bytes", .unsigned(image.counts.unread)),
      ("read_bytes", .unsigned(image.counts.read)), ("digest_bytes", .unsigned(image.counts.digests)),
      ("new_bytes", .unsigned(image.counts.stored)), ("resumed_bytes", .unsigned(image.counts.resumed)),
      ("signed_by", image.signer.map { .string($0.fingerprint) } ?? .null),
      ("signature_valid", image.isSignatureValid.map { .bool($0) } ?? .null),
    ])
  }

  struct Verify: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Reads all of a store, and says what of it is not as it was written.",
      discussion: """
        Every page and node is held against its SHA-256, every image against its signature. Each piece of memory that cannot be \
        had is named, with the images that it is missing from; what lies behind it is looked at all the same. The exit status is \
        1 where anything is wrong. Who signed is said, and whether that is who it should be, only with --key.
        """)

    @Argument(help: storeHelp) var store: String
    @Argument(help: "Only this image.") var image: String?
    @Option(
      help: ArgumentHelp(
        "Who is to have signed: grass-ed25519 BASE64, or the file that has it. Any other image is then a problem.",
        valueName: "key"))
    var key: String?

    func run() throws {
      let verification = try reporting {
        let key = try key.map { try KeyDocument(words: $0.split(separator: " ").map(String.init)).certifierKey() }
        let store = try ImageStore(store)
        let image = try image.map { try store.image($0) }
        return try store.verify(image, key: key) { writeNote("\($0)") }
      }
      for image in verification.images {
        let signer = image.signer.map { "signed by \($0.fingerprint)" } ?? "unsigned"
        writeOutput("\(StoreCommand.line(image)) root \(image.root) \(signer)\n")
      }
      writeOutput("\(verification.objects) pages and nodes, \(verification.problems) problems\n")
      if verification.problems > 0 { throw ExitStatus.partial }
    }
  }

  struct Extract: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Writes an image of a store in one of the formats that dump writes.",
      discussion: """
        What is damaged in the store, or could not be read when the image was taken, becomes zeros, is named in what is written, and the \
        exit status is then 1. Interrupted, the same command again goes on.
        """)

    @Argument(help: storeHelp) var store: String
    @Argument(help: "The image: the first digits of its ID, or newest.") var image: String
    @Option(
      name: .shortAndLong,
      help: ArgumentHelp("Where to write it, which must not be there yet; - for standard output.", valueName: "file"))
    var output: String
    @Option(help: "The format.") var format = FormatArgument(.elf)
    @Option(help: "How a kdump's pages are compressed.") var compression = CompressionArgument.zstd
    @Flag(help: "Say how far it has got, also where standard error is no terminal: a line every second.")
    var progress = false

    func run() throws {
      let memory = try reporting { () -> StoredMemory in
        let store = try ImageStore(store)
        return store.memory(of: try store.image(image))
      }
      var contents = memory.image.contents
      contents.remarks += memory.image.remarks
      let acquisition = Acquisition(
        of: memory, contents, as: format.format, compression: compression.compression,
        consistency: memory.image.consistency, identity: "image \(memory.image.id)")
      Interruption.watch()
      signal(SIGPIPE, SIG_IGN)
      var meter = ProgressMeter(isAsked: progress)
      let summary: AcquisitionSummary
      do throws(AcquisitionError) {
        summary = try acquisition.run(to: output == "-" ? .descriptor(STDOUT_FILENO) : .file(output)) { progress in
          meter.show(progress)
          return !Interruption.isAsked
        }
      } catch {
        meter.end()
        writeNote("\(error)")
        if error.isInterruption, output != "-" { writeNote("the same command again goes on with it") }
        throw ExitStatus.partial
      }
      meter.end()
      try summary.keepNote(beside: output, format.format)
      sayWhatMoved(summary.consistency)
      guard summary.unreadCount > 0 else { return }
      for range in summary.unread.prefix(8) { writeNote("not to be had: \(range.count) bytes from \(range.start) on") }
      writeNote("\(summary.unreadCount) bytes were not to be had and are zeros in what was written")
      throw ExitStatus.partial
    }
  }

  struct Prune: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Removes images from a store, and what is in no other.",
      discussion: "Killed at any point, the images that were to stay are whole; the same command again frees the rest.")

    @Argument(help: storeHelp) var store: String
    @Argument(help: "The images to remove.") var images: [String] = []
    @Option(help: ArgumentHelp("Of each host, remove all images but so many of the newest.", valueName: "number"))
    var keep: Int?

    func validate() throws {
      if images.isEmpty == (keep == nil) {
        throw ValidationError("Give the images to remove, or --keep with how many of each host are to stay.")
      }
      if let keep, keep < 0 { throw ValidationError("--keep takes a number from 0 on.") }
    }

    func run() throws {
      let pruning = try reporting { () -> StorePruning in
        let store = try ImageStore.writing(store)
        var removed: [StoredImage] = []
        if let keep {
          let hosts = Dictionary(grouping: try store.images().images, by: \.host)
          removed = hosts.values.flatMap { $0.dropLast(keep) }
        } else {
          var seen: Set<ObjectName> = []
          removed = try images.map { try store.image($0) }.filter { seen.insert($0.id).inserted }
        }
        return try store.prune(removed)
      }
      for image in pruning.images { writeOutput("removed \(StoreCommand.line(image))\n") }
      writeOutput("freed \(ProgressMeter.size(Double(pruning.freed)))\n")
    }
  }
}

extension StoredImage {
  /// What an image that is made of this one says of where it comes from.
  var remarks: [String] { ["STORED_IMAGE=\(id)", "TAKEN=\(began)/\(ended)"] }
}

/// Where a dump goes that does not become a file of its own.
struct StoreOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Keep the image in this store, which is made where there is none; list, verify, extract and prune are commands of store.",
      valueName: "store"))
  var into: String?

  @Option(
    help: ArgumentHelp(
      "What the host is called in the store: the next image under the same name takes what changed. (default: what --host or --memory says)",
      valueName: "name"))
  var name: String?

  @Option(
    help: ArgumentHelp(
      "The private key to sign the image in the store with, of `grassctl key new --certifier`. (default: certifier in your folder of keys, where there is one)",
      valueName: "file"))
  var signWith: String?

  func validate() throws {
    if into == nil, name != nil || signWith != nil {
      throw ValidationError("--name and --sign-with are for images in a store: give --into, too.")
    }
  }

  /// Takes an image into the store.
  func record(_ recording: ImageRecording, isAsked: Bool) throws {
    let (store, signer) = try reporting { () -> (ImageStore, CertifierIdentity?) in
      let signer = try self.signer()
      return (try ImageStore.writing(into ?? "", orNew: true), signer)
    }
    Interruption.watch()
    var meter = ProgressMeter(isAsked: isAsked)
    let outcome: ImageRecording.Outcome
    do throws(StoreError) {
      outcome = try recording.run(into: store, signer: signer) { progress in
        meter.show(progress)
        return !Interruption.isAsked
      }
    } catch {
      meter.end()
      writeNote("\(error)")
      if error.isInterruption { writeNote("the same command again goes on with it") }
      if case .memory = error.reason { throw ExitStatus.unreachable }
      throw ExitStatus.partial
    }
    meter.end()
    let (image, counts) = (outcome.image, outcome.image.counts)
    if counts.resumed > 0 {
      writeNote("went on after \(ProgressMeter.size(Double(counts.resumed))) that were there already")
    }
    var text = "image \(image.id.short) of \(ProgressMeter.size(Double(counts.memory))): read "
    text += ProgressMeter.size(Double(counts.read))
    if counts.digests > 0 { text += " and \(ProgressMeter.size(Double(counts.digests))) of digests" }
    writeNote(text + ", the store grew by \(ProgressMeter.size(Double(counts.stored)))")
    sayWhatMoved(image.consistency)
    writeNote(image.signer.map { "signed by \($0.fingerprint)" } ?? "signed by nobody")
    writeOutput("\(image.id)\n")
    guard counts.unread > 0 else { return }
    for range in outcome.unread.prefix(8) { writeNote("cannot be read: \(range.count) bytes from \(range.start) on") }
    writeNote("\(counts.unread) bytes could not be read, and the image says so")
    throw ExitStatus.partial
  }

  private func signer() throws -> CertifierIdentity? {
    if let signWith { return try CertifierIdentity(contentsOf: signWith) }
    let standard = try UserFolder.standard().certifier
    return access(standard, F_OK) == 0 ? try CertifierIdentity(contentsOf: standard) : nil
  }
}
