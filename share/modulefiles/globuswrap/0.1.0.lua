-- `make install` writes the prefix into this file. Put PREFIX/share/modulefiles on MODULEPATH, or link it into your tree.
local prefix = [[@PREFIX@]]

help("globuswrap: stage, sync, share and trigger with the globus command. See: globuswrap --help, man globuswrap")
whatis("globuswrap 0.1.0: Globus around batch jobs, cron jobs and instruments")
conflict("globuswrap")

prepend_path("PATH", prefix .. "/bin")
-- Unset, MANPATH follows PATH by itself; set to one directory, it would hide the system's.
if os.getenv("MANPATH") then
  prepend_path("MANPATH", prefix .. "/share/man")
end
-- For completion. Unset, it stands for these two.
if not os.getenv("XDG_DATA_DIRS") then
  prepend_path("XDG_DATA_DIRS", "/usr/share")
  prepend_path("XDG_DATA_DIRS", "/usr/local/share")
end
prepend_path("XDG_DATA_DIRS", prefix .. "/share")
