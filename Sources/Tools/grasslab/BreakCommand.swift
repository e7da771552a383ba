import ArgumentParser
import Foundation
import Lab

/// Breaks a guest on purpose, for detectors to be held against.
struct BreakCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "break", abstract: "Boots a guest and breaks it on purpose, in the way that is asked for.",
    discussion: """
      Prints `memory=PATH pid=PID break=NAME` when it is done, and keeps the guest until standard input ends or Ctrl-C. Nothing \
      happens outside the guest.
      """)

  @OptionGroup var options: BootOptions

  @Flag(help: "List the ways to break a guest, and boot none.")
  var list = false

  @Flag(help: "With --list: as JSON, one a line, with what has to be found of each and how soon.")
  var json = false

  @Argument(help: "What to break; --list names all.")
  var name: String?

  func validate() throws {
    if !list, name == nil { throw ValidationError("What to break? grasslab break --list names all ways.") }
  }

  func run() throws {
    if list {
      for one in Breaks.all {
        if json {
          print(String(decoding: try one.json, as: UTF8.self))
        } else {
          print("\(one.name.padding(toLength: 30, withPad: " ", startingAt: 0)) \(one.kind.rawValue)\t\(one.summary)")
        }
      }
      return
    }
    let one = try Breaks.named(name ?? "")
    if let lack = try KernelStore().kernel(options.kernel).lacks(for: one) {
      throw LabError("\(one.name) cannot be done: \(lack); run scripts/setup")
    }
    var options = options
    options.cpus = max(options.cpus, one.cpus)
    options.devices = options.devices || one.needs.contains(.devices)
    let guest = try options.boot()
    try guest.perform(one)
    FileHandle.standardOutput.write(
      Data("memory=\(guest.memoryPath) pid=\(guest.processID) break=\(one.name)\n".utf8))
    while readLine() != nil {}
    guest.shutDown()
  }

  /// Does to a guest that runs what a line of `boot` asks for, and says so in one line.
  static func answer(_ verb: String, _ name: String, in guest: Guest) -> String {
    do {
      let one = try Breaks.named(name)
      let deed =
        switch verb {
        case "undo": one.undo
        case "prepare": one.preparation
        default: Optional(one.deed)
        }
      guard let deed else { throw LabError(verb == "undo" ? "nothing undoes it" : "nothing has to be there before") }
      try guest.perform(deed)
      return "\(verb)=\(name)"
    } catch {
      return "\(verb)=\(name) error=\("\(error)".split(whereSeparator: \.isNewline).joined(separator: "; "))"
    }
  }
}
