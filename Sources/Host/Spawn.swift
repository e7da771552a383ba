package import Glibc

/// Starts a program, its path or its name first, in a process of its own, which takes the signals that this one holds back.
///
/// - Parameters:
///   - program: its path, or a name that is looked for where programs lie, and what it is told.
///   - input: what becomes its standard input; nil for this process's own.
///   - output: what becomes its standard output; nil for this process's own.
///   - errors: what becomes its standard error; nil for this process's own.
///   - extra: what becomes its descriptor 3; nil for none.
/// - Returns: its process ID; whoever starts it waits for its end.
/// - Throws: ``SystemCallError`` where it cannot be started.
package func spawn(
  _ program: [String], input: Int32? = nil, output: Int32? = nil, errors: Int32? = nil, extra: Int32? = nil
) throws(SystemCallError) -> pid_t {
  var actions = posix_spawn_file_actions_t()
  posix_spawn_file_actions_init(&actions)
  defer { posix_spawn_file_actions_destroy(&actions) }
  if let input { posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO) }
  if let output { posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO) }
  if let errors { posix_spawn_file_actions_adddup2(&actions, errors, STDERR_FILENO) }
  if let extra { posix_spawn_file_actions_adddup2(&actions, extra, 3) }
  var attributes = posix_spawnattr_t()
  posix_spawnattr_init(&attributes)
  defer { posix_spawnattr_destroy(&attributes) }
  var none = sigset_t()
  sigemptyset(&none)
  posix_spawnattr_setsigmask(&attributes, &none)
  posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
  var arguments: [UnsafeMutablePointer<CChar>?] = program.map { strdup($0) } + [nil]
  defer { for argument in arguments { free(argument) } }
  let path = program.first ?? ""
  var process = pid_t()
  let code = posix_spawnp(&process, path, &actions, &attributes, &arguments, environ)
  guard code == 0 else { throw SystemCallError(path, call: "posix_spawn", code: code) }
  return process
}
