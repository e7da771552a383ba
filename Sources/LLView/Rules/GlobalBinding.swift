import CLLVM
import KernelInfo
import Memory

/// Rule 3: an extern variable of the kernel becomes its address in that kernel; a per-CPU one becomes its offset in the
/// per-CPU areas, as kallsyms has it.
struct GlobalBinding {
  let kernel: KernelNames
  let monitor: String
  let context: LLVMContextRef

  func apply(to module: borrowing IRModule) throws(LLViewError) {
    for global in module.globals {
      let name = global.name
      if !global.isDeclaration {
        guard LLVMIsGlobalConstant(global) != 0 || LLVMGetFirstUse(global) == nil else {
          throw LLViewError(
            monitor, kernel: kernel.release,
            .refused(
              "variable '\(name)' can change; a monitor keeps nothing from run to run, so make it const or local"))
        }
        LLVMSetLinkage(global, LLVMPrivateLinkage)
        LLVMSetSection(global, nil)
        continue
      }
      if LLVMGetFirstUse(global) != nil { LLVMReplaceAllUsesWith(global, try address(of: name, global)) }
      LLVMDeleteGlobal(global)
    }
    // A kernel function's address may be looked at; `Calls` refuses to call it.
    for function in module.functions where function.isDeclaration && !function.name.hasPrefix("llvm.") {
      for user in function.users where !(user.isInstruction && user.callee == function) {
        for index in 0..<user.operandCount where user.operand(index) == function {
          LLVMSetOperand(user, UInt32(index), try address(of: function.name, function))
        }
      }
    }
  }

  private func address(of name: String, _ global: LLVMValueRef) throws(LLViewError) -> LLVMValueRef {
    let found = kernel.address(name)
    if found == nil, LLVMGetLinkage(global) != LLVMExternalWeakLinkage {
      let why = KernelInfoError(.missingSymbol(name), release: kernel.release)
      throw LLViewError(monitor, kernel: kernel.release, .missing("\(why)"))
    }
    let number = LLVMConstInt(LLVMInt64TypeInContext(context), found?.rawValue ?? 0, 0)
    return LLVMConstIntToPtr(number, LLVMPointerTypeInContext(context, 0))
  }
}
