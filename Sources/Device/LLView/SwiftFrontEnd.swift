import CLLVM

/// Monitors in Embedded Swift: NAME.swift, and beside it NAME.h, its window to the kernel.
///
/// Swift knows nothing of the fields of a watched kernel. So what looks at the kernel are functions in C: the header is
/// compiled by clang as any monitor is, Swift calls what it declares, and both become one module. Swift's own LLVM is
/// newer than the one here, hence its code goes through text, without what the older one does not know.
extension FrontEnd {
  private static let swiftArguments = [
    "-target", "x86_64-unknown-none-elf", "-enable-experimental-feature", "Embedded", "-wmo", "-Ounchecked",
    "-parse-as-library", "-disable-bridging-pch", "-emit-ir",
  ]

  func compileSwift(_ path: String) throws(LLViewError) -> [UInt8] {
    let name = Self.name(of: path)
    let window = path.dropLast("swift".count) + "h"
    var module = try IRModule(try compileWindow(String(window)), name: name)
    let folder = try TemporaryFolder(for: name)
    let headers = try Self.writeHeaders(for: name)
    let output = folder.path + "/out.ll"
    try run(
      [swiftc] + Self.swiftArguments + includeArguments(headers).flatMap { ["-Xcc", $0] }
        + ["-import-objc-header", String(window), path, "-o", output], for: name, in: folder,
      package: "Swift's toolchain")
    let text = String(decoding: try Self.read(output), as: UTF8.self)
    try module.link(Array(Self.forOlderLLVM(text).utf8), name: name)
    // Swift brings its own runtime along; what the monitor does not call goes.
    for list in ["llvm.used", "llvm.compiler.used"] {
      if let global = LLVMGetNamedGlobal(module.module, list) { LLVMDeleteGlobal(global) }
    }
    for value in module.functions + module.globals where LLVMIsDeclaration(value) == 0 {
      if LLVMGetSection(value).map({ String(cString: $0) }) == "grass/monitor" { continue }
      LLVMSetVisibility(value, LLVMDefaultVisibility)
      LLVMSetLinkage(value, LLVMInternalLinkage)
    }
    try module.run("globaldce", name: name)
    return module.bitcode
  }

  /// IR without attributes and flags that came after LLVM 19, Swift's own way to call, and promises about values: what
  /// is computed comes from watched memory, and nobody can promise anything about it.
  static func forOlderLLVM(_ text: String) -> String {
    text.split(separator: "\n", omittingEmptySubsequences: false).lazy.filter { line in
      !line.contains("call void @llvm.assume(")
    }.map { line in
      line.replacing(/\ (captures|initializes)\([^()]*(\([^()]*\)[^()]*)*\)/, with: "")
        .replacing(/\ (samesign|nuw|nsw|swiftcc|swiftself|swifterror)(?= )/, with: "")
        .replacing(/, !tbaa ![0-9]+/, with: "")
        .replacing(/\ "(target-cpu|target-features|tune-cpu|frame-pointer)"="[^"]*"/, with: "")
    }.joined(separator: "\n")
  }
}
