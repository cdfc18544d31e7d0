-- Slurm-native staging from #GLOBUS lines: the controller brings the data before the job starts, and takes the results
-- away when it has ended. Put it beside slurm.conf; README.md here says how.
--
-- Slurm calls these functions with `lua` as the burst buffer plugin (22.05: slurm_bb_job_process and slurm_bb_pools in the
-- controller itself, the others in a process of their own that may take its time). Everything is done by the program
-- `stage` beside this file, so that nothing here depends on the version of Slurm.

-- The program, and what starts it as the user who owns the job. With `as_user = ""` all transfers are made with the Globus
-- login of SlurmUser, such as a service account.
local stage = "@STAGE@"
local as_user = "sudo -n -H -u '#%d' --"

local function quoted(text)
  return "'" .. string.gsub(tostring(text), "'", "'\\''") .. "'"
end

-- Runs `stage` and returns Slurm's code and what it printed last.
local function run(uid, ...)
  local words = { as_user ~= "" and uid and string.format(as_user, uid) or "", quoted(stage) }
  for _, word in ipairs({ ... }) do
    words[#words + 1] = quoted(word)
  end
  -- The exit code goes through the output: Lua 5.1's pclose does not tell it.
  local pipe = io.popen(table.concat(words, " ") .. " 2>&1; printf '\\n%d' \"$?\"")
  local output = pipe:read("*a")
  pipe:close()
  local text, code = string.match(output, "^(.-)%s*\n(%d+)$")
  if code == "0" then
    return slurm.SUCCESS, text
  end
  slurm.log_error("globuswrap: %s: %s", table.concat({ ... }, " "), text or output)
  return slurm.ERROR, text or output
end

-- Whose job it is: known from the setup of the job, kept beside the program's own state.
local function owner(job_id)
  local code, text = run(nil, "owner", job_id)
  return code == slurm.SUCCESS and tonumber(text) or nil
end

-- At sbatch: a bad line is refused, with its number and column.
function slurm_bb_job_process(job_script)
  return run(nil, "check", job_script)
end

function slurm_bb_pools()
  return slurm.SUCCESS
end

function slurm_bb_setup(job_id, uid, gid, pool, bb_size, job_script)
  return slurm.SUCCESS
end

-- While the job is pending (BurstBufferStageIn). An error keeps it pending, with the reason in `scontrol show job`.
function slurm_bb_data_in(job_id, job_script)
  return run(owner(job_id), "in", job_id, job_script)
end

function slurm_bb_test_data_in(job_id, job_script)
  return slurm.SUCCESS, "BUSY"
end

function slurm_bb_real_size(job_id)
  return slurm.SUCCESS, "0"
end

function slurm_bb_paths(job_id, job_script, path_file)
  return slurm.SUCCESS
end

function slurm_bb_pre_run(job_id, job_script)
  return slurm.SUCCESS
end

function slurm_bb_post_run(job_id, job_script)
  return slurm.SUCCESS
end

-- After the job, whose nodes are free by then. By its exit code: --when success, failure, always.
function slurm_bb_data_out(job_id, job_script)
  return run(owner(job_id), "out", job_id, job_script)
end

function slurm_bb_test_data_out(job_id, job_script)
  return slurm.SUCCESS, "BUSY"
end

function slurm_bb_job_teardown(job_id, job_script, hurry)
  return slurm.SUCCESS
end

function slurm_bb_get_status(...)
  return slurm.SUCCESS, ""
end
