"""What a task looks like, and what a worker makes of it (see _tasks.pyx)."""


cpdef tuple refer(object function)
cpdef object perform(int how, object module, object function, object args, object options)
