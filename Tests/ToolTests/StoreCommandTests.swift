import Foundation
import Scratch
import Testing

/// `grassctl dump --into` and `grassctl store`, run as a person runs them.
struct StoreCommandTests {
  private let scratch: ScratchFolder

  /// Removed with the test.
  private final class ScratchFolder {
    let scratch: Scratch
    init() throws { scratch = try Scratch() }
    func file(_ name: String) -> String { scratch.file(name) }
  }

  init() throws { scratch = try ScratchFolder() }

  private struct Run {
    let status: Int32
    let output: String
    let errors: String
    let seconds: Double
  }

  private func process(_ arguments: [String]) throws -> Process {
    let process = Process()
    process.executableURL = try #require(BuiltTools.directory).appending(path: "grassctl")
    process.arguments = arguments
    process.environment = ["GRASS_CONFIG": scratch.file("grass"), "PATH": "/usr/bin:/bin", "HOME": scratch.file("")]
    process.standardInput = FileHandle.nullDevice
    return process
  }

  private func grassctl(_ arguments: String...) throws -> Run {
    let process = try process(arguments)
    let (output, errors) = (Pipe(), Pipe())
    process.standardOutput = output
    process.standardError = errors
    let start = ContinuousClock.now
    try process.run()
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    let complaints = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    return Run(
      status: process.terminationStatus, output: text, errors: complaints,
      seconds: (ContinuousClock.now - start) / .seconds(1))
  }

  /// Begins a command, and kills it after so many seconds.
  ///
  /// - Returns: whether it had not ended before.
  private func kill(_ arguments: [String], after seconds: Double) throws -> Bool {
    let process = try process(arguments)
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    try process.run()
    usleep(UInt32(seconds * 1e6))
    Foundation.kill(process.processIdentifier, SIGKILL)
    process.waitUntilExit()
    return process.terminationReason == .uncaughtSignal
  }

  private func list(_ store: String) throws -> [[String: Any]] {
    let run = try grassctl("store", "list", "--json", store)
    try #require(run.status == 0, "\(run.errors)")
    return try #require(try JSONSerialization.jsonObject(with: Data(run.output.utf8)) as? [[String: Any]])
  }

  private func root(_ store: String) throws -> String? { try list(store).last?["root"] as? String }

  /// Memory no two pages of which are alike, in a file.
  @discardableResult
  private func writeMemory(_ name: String, pages: Int, changing changed: Range<Int> = 0..<0) throws -> String {
    var words = [UInt64](repeating: 0, count: pages * 512)
    var state: UInt64 = 1
    words.withUnsafeMutableBufferPointer { words in
      for page in 0..<pages {
        let flipped: UInt64 = changed.contains(page) ? .max : 0
        // Half of each page is zeros, which can be compressed.
        var index = page * 512
        while index < page * 512 + 256 {
          state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
          words[index] = state ^ flipped
          index += 1
        }
      }
    }
    try words.withUnsafeBytes { try Data($0).write(to: URL(filePath: scratch.file(name))) }
    return scratch.file(name)
  }

  @Test("an image goes into a store, is listed, checked, extracted and looked into, and another takes what changed")
  func command() throws {
    let store = scratch.file("store")
    let memory = try writeMemory("memory", pages: 4096)
    let first = try grassctl("dump", "--memory", memory, "--into", store, "--name", "h")
    #expect(first.status == 0 && first.errors.contains("signed by nobody"), "\(first.errors)")
    try #require(try grassctl("key", "new", "--certifier").status == 0)
    try writeMemory("memory", pages: 4096, changing: 100..<140)
    let second = try grassctl("dump", "--memory", memory, "--into", store, "--name", "h")
    #expect(second.status == 0, "\(second.errors)")
    let images = try list(store)
    #expect(images.map { "\($0["id"] ?? "")\n" } == [first.output, second.output])
    #expect(images.compactMap { $0["host"] as? String } == ["h", "h"])
    #expect(images[0]["signed_by"] is NSNull && images[1]["signature_valid"] as? Bool == true)
    let grown = try #require(images[1]["new_bytes"] as? Int)
    #expect(grown > 40 * 2048 && grown < (4096 * 4096) / 50, "\(grown)")

    // Nothing moved, and what is made of an image is of the instant that it was, not of the one when it was made.
    let instant = try #require(images[1]["instant"] as? String)
    #expect(images[1]["moved_pages"] as? Int == 0 && images[1]["instant_pages"] as? Int == 4096)
    let blind = try grassctl("dump", "--memory", memory, "--into", scratch.file("blind"), "--rounds", "0")
    #expect(blind.status == 0, "\(blind.errors)")
    #expect(try list(scratch.file("blind"))[0]["instant"] is NSNull)
    let table = try grassctl("store", "list", scratch.file("blind")).output.split(separator: "\n").map {
      $0.split(separator: " ")
    }
    #expect(table[0].contains("MOVED") && table[1].contains("-"), "\(table)")

    let signer = scratch.file("grass/certifier.pub")
    let checked = try grassctl("store", "verify", store)
    #expect(checked.status == 0 && checked.output.contains("0 problems"), "\(checked.errors)")
    #expect(try grassctl("store", "verify", store, "newest", "--key", signer).status == 0)
    let unsigned = try grassctl("store", "verify", store, "--key", signer)
    #expect(unsigned.status == 1 && unsigned.errors.contains("is not signed by SHA256:"))

    for format in ["raw", "elf", "kdump", "lime"] {
      let file = scratch.file(format)
      let run = try grassctl("store", "extract", store, "newest", "--format", format, "-o", file)
      #expect(run.status == 0, "\(run.errors)")
      // Read as memory, whatever the format.
      let read = try grassctl("dump", "--memory", file, "-o", file + ".again", "--format", "raw")
      #expect(read.status == 0, "\(read.errors)")
      #expect(try scratch.scratch.read("\(format).again") == scratch.scratch.read("memory"))
    }
    #expect(try scratch.scratch.read("raw") == scratch.scratch.read("memory"))
    let inside = try grassctl("dump", "--memory", store + "#newest", "-o", scratch.file("inside"), "--format", "raw")
    #expect(inside.status == 0, "\(inside.errors)")
    #expect(try scratch.scratch.read("inside") == scratch.scratch.read("memory"))
    for name in ["raw", "inside"] {
      let note = try scratch.scratch.text("\(name).notes").split(separator: "\n")
      #expect(note.contains("INSTANT=\(instant)") && note.contains("PAGES_MOVED=0"), "\(note)")
    }
    let missing = try grassctl("store", "extract", store, "ffff", "-o", scratch.file("none"))
    #expect(missing.status == 3 && missing.errors.contains("there is no image ffff"))

    let pruned = try grassctl("store", "prune", store, "--keep", "1")
    #expect(pruned.status == 0 && pruned.output.contains("removed \(first.output.prefix(12))"), "\(pruned.errors)")
    #expect(try list(store).count == 1)
    #expect(try grassctl("store", "verify", store).status == 0)
  }

  @Test("what cannot be asked for is refused before anything is written")
  func usage() throws {
    let memory = try writeMemory("memory", pages: 16)
    for arguments in [
      ["dump", "--memory", memory], ["dump", "--memory", memory, "-o", "x", "--into", "y"],
      ["dump", "--memory", memory, "-o", "x", "--sign-with", "y"], ["store", "prune", "x"],
      ["store", "prune", "x", "y", "--keep", "1"],
    ] {
      let process = try process(arguments)
      process.standardError = FileHandle.nullDevice
      process.standardOutput = FileHandle.nullDevice
      try process.run()
      process.waitUntilExit()
      #expect(process.terminationStatus == 64, "\(arguments)")
    }
    let signing = try grassctl(
      "dump", "--memory", memory, "--into", scratch.file("store"), "--sign-with", scratch.file("none"))
    #expect(signing.status == 3 && !FileManager.default.fileExists(atPath: scratch.file("store")))
    #expect(try grassctl("store", "list", scratch.file("none")).status == 3)
    #expect(try grassctl("dump", "--memory", memory, "--into", scratch.file("")).errors.contains("other files in it"))
  }

  @Test("killed at any moment and begun again, an image has the same root, and those before it stay")
  func killed() throws {
    let memory = try writeMemory("memory", pages: 12288)
    let whole = try grassctl("dump", "--memory", memory, "--into", scratch.file("undisturbed"))
    try #require(whole.status == 0, "\(whole.errors)")
    let expected = try root(scratch.file("undisturbed"))
    let store = scratch.file("store")
    try writeMemory("memory", pages: 12288, changing: 0..<3000)
    #expect(try grassctl("dump", "--memory", memory, "--into", store).status == 0)
    try writeMemory("memory", pages: 12288)
    let command = ["dump", "--memory", memory, "--into", store]
    var kills = 0
    for _ in 0..<6 {
      guard try kill(command, after: .random(in: 0...whole.seconds)) else { continue }
      kills += 1
      // Whoever reads sees the image that was there.
      let seen = try grassctl("store", "verify", store)
      #expect(!seen.errors.contains("image"), "\(seen.errors)")
    }
    #expect(kills > 0)
    let last = try grassctl("dump", "--memory", memory, "--into", store)
    #expect(last.status == 0, "\(last.errors)")
    #expect(try root(store) == expected)
    let checked = try grassctl("store", "verify", store)
    #expect(checked.status == 0, "\(checked.errors)")

    // The same of removing.
    for _ in 0..<4 { _ = try kill(["store", "prune", store, "--keep", "1"], after: .random(in: 0...0.2)) }
    #expect(try grassctl("store", "prune", store, "--keep", "1").status == 0)
    let left = try grassctl("store", "verify", store)
    #expect(left.status == 0, "\(left.errors)")
    #expect(try list(store).count == 1 && root(store) == expected)
  }
}
