import ArgumentParser
import Fleet
import Glibc

/// Makes what a configuration keeps of a password.
struct PasswordCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "password",
    abstract: "Reads a password from standard input, and prints what the configuration keeps of it.")

  func run() throws {
    // What is typed is not shown.
    var old = termios()
    let isTerminal = isatty(STDIN_FILENO) == 1 && tcgetattr(STDIN_FILENO, &old) == 0
    if isTerminal {
      var silent = old
      silent.c_lflag &= ~tcflag_t(ECHO)
      tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent)
      writeNote("type the password, which is not shown, and return")
    }
    let line = readLine()
    if isTerminal { tcsetattr(STDIN_FILENO, TCSAFLUSH, &old) }
    guard let line, line.utf8.count >= 8 else {
      writeNote("a password has 8 characters at least")
      throw ExitCode(1)
    }
    guard let hash = PasswordHash(hashing: line) else {
      writeNote("there is no memory to hash it")
      throw ExitCode(1)
    }
    writeLine("\(hash)")
  }
}
