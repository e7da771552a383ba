import ArgumentParser
import KernelViews

/// What documents and scripts take from the list of views, so that nobody writes it by hand.
struct Reference: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "reference", abstract: "Prints every view's keys in JSON, with their units: docs/json.md.",
    shouldDisplay: false)

  @Flag(help: "Print the rows of README's table instead.")
  var readme = false

  @Flag(help: "Print command lines on which views are tried, a line each, words apart by tabs.")
  var commands = false

  @Option(help: "The process that such a command line looks at, where it needs one.")
  var process: Int32 = 1

  @Option(help: "The text that it looks for.")
  var text = "grass-guest"

  func run() throws {
    if commands {
      let subject = ViewSubject(process: process, text: text)
      for words in ViewReference.commands(KernelViews.all, subject) {
        writeOutput(words.joined(separator: "\t") + "\n")
      }
    } else {
      writeOutput(readme ? ViewReference.groups(KernelViews.all) : ViewReference.keys(KernelViews.all))
    }
  }
}
